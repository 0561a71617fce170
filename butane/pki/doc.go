// Package pki keeps a cluster's certificates in the operator's directory: who
// may talk to etcd, which machines are its members, whose proxies talk to each
// other. Three authorities, so that none of the three can be had by way of
// another: a host's certificate as a client of etcd must not make it a member.
//
//	DIR/etcd-ca.{crt,key}        etcd's servers and clients; a client's common name is its user
//	DIR/etcd-peer-ca.{crt,key}   etcd's members among each other
//	DIR/peer-ca.{crt,key}        hosts' proxies among each other
//	DIR/root.{crt,key}           root, for etcd
//	DIR/operators/<name>.…       one of those who run the fleet, for etcd; to be given to him
//	DIR/hosts/<host>/…           what goes to this host, and to no other
//	DIR/opening-keys.json        what opens tenants' secrets; goes to all hosts that run tenants
//
// Authorities live ten years, all others one, and are made anew when a third
// of that is left or when what they say has changed. Keys are ECDSA P-256. The
// directory's mode is 0700, keys' are 0600; an authority's key never leaves it.
package pki
