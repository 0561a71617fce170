package breach

import (
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Where somebody on the host listens who says the secret to whoever connects.
const (
	TCP      = "127.0.0.1:7001"
	UDP      = "127.0.0.1:7001" // answers what it is sent with the secret
	Abstract = "@bulkhead-breakin"
	Metadata = "169.254.169.254:80"
)

// errSilent is a listener that did not say the secret.
var errSilent = errors.New("it says nothing of it")

var sockets = []attack{
	{"speak TCP with the host", func(o *Orders) error { return o.hear("tcp", TCP) }},
	{"speak UDP with the host", func(o *Orders) error { return o.hear("udp", UDP) }},
	{"ask the cloud's metadata service", func(o *Orders) error { return o.hear("tcp", Metadata) }},
	{"speak with an abstract socket of the host", func(o *Orders) error { return o.hear("unix", Abstract) }},
	{"speak with the host's sockets that have a path", func(o *Orders) error {
		return first(o.Sockets, func(path string) error {
			c, err := net.DialTimeout("unix", path, time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
	}},
	{"reach shared memory of the host", sharedMemory},
}

// hear gets through where the secret is said.
func (o *Orders) hear(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b[:n]), o.Secret) {
		return errSilent
	}
	return nil
}

// kinds are sockets that need no address to be a danger: the kernel's code
// behind them is in reach once they are there.
func kinds() []attack {
	var all []attack
	for _, k := range []struct {
		name                   string
		family, kind, protocol int
	}{
		{"raw IP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		{"ICMP", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP},
		{"packets of a link", unix.AF_PACKET, unix.SOCK_RAW, 0},
		{"netlink of the packet filter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"netlink of devices", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT},
		{"the kernel's cryptography", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"a hypervisor (vsock)", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
	} {
		all = append(all, attack{"make a socket: " + k.name, func(*Orders) error {
			fd, err := unix.Socket(k.family, k.kind|unix.SOCK_CLOEXEC, k.protocol)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}})
	}
	return all
}
