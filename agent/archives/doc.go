// Package archives gets what is named by a digest onto a host that lacks it, from
// wherever it is to be had, and gives it to hosts that lack it: images (package
// images) and sets of npm modules (package sets).
//
// Who takes an archive checks its digest, so it does not matter whom it comes
// from. Between hosts it goes as bytes through their proxies, which know each
// other by certificate; on each end the agent speaks HTTP/1.1.
package archives
