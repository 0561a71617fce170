package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"bulkhead/internal/frames/framestest"
)

// hello is what a benchmark's instance answers.
func hello(x *framestest.Exchange) { x.Answer(200, nil, "hello", true) }

// ask sends the same request again and again over connections of its own, and
// reads answers that all have the same length: a client that costs little.
func ask(b *testing.B, address string) {
	b.Helper()
	const request = "GET /acme/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\r\n"
	first, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	io.WriteString(first, request)
	buf := make([]byte, 4096)
	length, err := first.Read(buf)
	if err != nil {
		b.Fatal(err)
	}
	first.Close()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, length)
		for pb.Next() {
			io.WriteString(c, request)
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	http.DefaultClient.CloseIdleConnections()
}

func BenchmarkInstanceHere(b *testing.B) {
	f := newFleet(b, "h1")
	f.place("h1", "acme.0", hello)
	ask(b, f.hosts["h1"].addr)
}

func BenchmarkInstanceOnAnotherHost(b *testing.B) {
	f := newFleet(b, "h1", "h2")
	f.place("h2", "acme.0", hello)
	ask(b, f.hosts["h1"].addr)
}

// BenchmarkChoice is what choosing a target costs, without any request.
func BenchmarkChoice(b *testing.B) {
	for _, hosts := range []int{1, 3, 30} {
		b.Run(fmt.Sprint(hosts, " hosts"), func(b *testing.B) {
			table := NewTable("h0", slog.New(slog.DiscardHandler))
			k := known{}
			for i := range hosts {
				host := fmt.Sprintf("h%d", i+1)
				k.put("acme", fmt.Sprintf("%s/acme.%d", host, i), placedAt(host, i))
			}
			setKnown(table, k)
			b.ReportAllocs()
			for b.Loop() {
				tg, refusal := table.pick(b.Context(), "acme", nil, time.Time{})
				if refusal != nil {
					b.Fatal(refusal)
				}
				tg.leave()
			}
		})
	}
}

// BenchmarkTable is what one instance's change costs in a large fleet.
func BenchmarkTable(b *testing.B) {
	table := NewTable("h0", slog.New(slog.DiscardHandler))
	k := known{}
	for i := range 100_000 {
		host, tenant := fmt.Sprintf("h%d", i%1000+1), fmt.Sprintf("t%d", i/2)
		f := placedAt(host, i%2)
		f.Route.Tenant, f.Instance.Tenant = tenant, tenant
		f.Route.Instance, f.Instance.Instance = fmt.Sprintf("%s.%d", tenant, i%2), fmt.Sprintf("%s.%d", tenant, i%2)
		k.put(tenant, host+"/"+f.Route.Instance, f)
	}
	setKnown(table, k)
	one := []string{"t7"}
	b.ReportAllocs()
	for b.Loop() {
		table.update(k, one)
	}
}
