// Package images gets the image that instances run onto a host that lacks it:
// from a file, from where the host's artifacts are, or from another host that
// has it; and gives it to hosts that lack it (package archives).
//
// An image is named by its ID, the digest of its configuration, which names the
// digests of its layers; Docker checks those when it loads an archive. So it
// does not matter who it comes from: what is there under the ID afterwards is
// the image.
package images
