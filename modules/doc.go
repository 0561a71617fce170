// Package modules gives functions the npm packages that they want, as far as the
// operator allows them.
//
// A builder ([Run]) follows what functions and tenants want, builds each want
// once, and writes the name of what came of it into the functions. It is trusted
// as a scheduler is: whoever names sets decides which code all tenants run.
// npm itself resolves and installs; nothing of a package runs on the way, but
// install scripts that the operator allowed, in a container without a network.
//
//	range.go      ranges of versions, as npm means them
//	narrow.go     what npm is asked for: what is wanted and allowed
//	list.go       the allow-list, and what it says of a resolved lock
//	lock.go       package-lock.json
//	tools.go      npm, Node and its headers, pinned and verified
//	npm.go        npm, as a user that may do nothing else
//	toolchain.go  the image with compilers, scripts.go what runs in it
//	tree.go       what may be in a set, archive.go its deterministic archive
//	make.go       a build, step by step
//	model.go      what the builder knows; plan.go, pure, what it is to do
//	turn.go       one of several builders builds; builder.go, its loop
//	want.go       where wants are found
//	reach.go      who has a package, and by which way
package modules
