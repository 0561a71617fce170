package egress

// Limits is what one instance may do to the network.
type Limits struct {
	Connections int   // open at a time; default 512
	Rate        int   // new connections a second, twice as many in a burst; default 100
	Bandwidth   int64 // bytes a second, each way; default 12.5 MB (100 Mbit/s)
	Packets     int   // packets a second that it sends; default 25,000
}

func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = 512
	}
	if l.Rate == 0 {
		l.Rate = 100
	}
	if l.Bandwidth == 0 {
		l.Bandwidth = 12_500_000
	}
	if l.Packets == 0 {
		l.Packets = 25_000
	}
	return l
}
