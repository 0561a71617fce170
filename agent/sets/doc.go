// Package sets is a host's store of npm modules: the sets that functions name,
// unpacked once, and shared by all tenants of the host.
//
// A set comes as an archive, a tar that is named by its SHA-256, from wherever it
// is to be had. It is read once: everything goes to a place of its own first, and
// becomes visible only when all of it was read and the digest is right. Files are
// kept by what is in them, and a set is a tree of hard links to those, so equal
// files of all sets are one on the disk and in the page cache.
//
//	<state>/modules/
//	  secret          names of sets are made with it; 0600
//	  archives/       <sha256>.tar: a builder's, or put there by hand
//	  files/          <2>/<sha256>, "x" behind it where it may be executed; 0700
//	  sets/<name>/    node_modules/… and package-lock.json: the cells' /modules; 0711
//	  recipes/        <sha256>.gz: how an archive is made again of files; 0700
//	  new/            what is being unpacked; 0700
//
// Every cell of the host sees sets/. A set's name is an HMAC of its digest with
// the host's secret: whoever is not told it can neither list it nor guess it from
// packages that he knows.
//
//	store.go    the directories, names
//	entry.go    what an archive may hold; pure
//	unpack.go   from archive to set
//	recipe.go   how an archive is made again
//	sweep.go    what goes when nobody names it
//	verify.go   what is broken
//	keep.go     which sets the host wants, and how it gets them
package sets
