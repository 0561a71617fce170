package proxy

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"reflect"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func put(t *testing.T, key string, v any) etcd.Event {
	t.Helper()
	value, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return etcd.Event{Key: key, Value: value}
}

func gone(key string) etcd.Event { return etcd.Event{Key: key, Deleted: true} }

func TestRouteAndInstanceMakeAPlaceTogether(t *testing.T) {
	route := func(change ...func(*cluster.Route)) etcd.Event {
		r := cluster.Route{Tenant: "acme", Instance: "acme.0", Host: "h2", Address: "192.0.2.2:7600"}
		for _, c := range change {
			c(&r)
		}
		return put(t, "/bulkhead/routes/h2/acme.0", r)
	}
	instance := func(change ...func(*cluster.Instance)) etcd.Event {
		in := cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h2", Phase: cluster.Ready, Endpoint: "/run/x.sock"}
		for _, c := range change {
			c(&in)
		}
		return put(t, "/bulkhead/instances/h2/acme.0", in)
	}
	phase := func(p cluster.Phase) etcd.Event { return instance(func(in *cluster.Instance) { in.Phase = p }) }
	lost := gone("/bulkhead/instances/h2/acme.0")
	nothing := standing{}
	tests := []struct {
		sentence string
		events   []etcd.Event
		far      standing // as h1 sees it
		near     standing // as h2 does, whose socket is there
	}{
		{"both are there", []etcd.Event{route(), instance()}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
		{"the instance came first", []etcd.Event{instance(), route()}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
		{"it sleeps", []etcd.Event{route(), phase(cluster.Dormant)}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
		{"a host says it has what was not placed on it", []etcd.Event{instance()}, nothing, nothing},
		{"its host has not said anything yet", []etcd.Event{route()}, standing{starting: true}, standing{starting: true}},
		{"it starts", []etcd.Event{route(), phase(cluster.Starting)}, standing{starting: true}, standing{starting: true}},
		{"it stops", []etcd.Event{route(), phase(cluster.Stopping)}, nothing, nothing},
		{"it failed", []etcd.Event{route(), phase(cluster.Failed)}, standing{rank: failed, serves: true}, standing{rank: failed, serves: true}},
		{"it is leaving", []etcd.Event{route(func(r *cluster.Route) { r.Leaving = true }), instance()}, standing{rank: leaving, serves: true}, standing{rank: leaving, serves: true}},
		{"its route has gone", []etcd.Event{route(), instance(), gone("/bulkhead/routes/h2/acme.0")}, nothing, nothing},
		{"its host's word was lost", []etcd.Event{route(), instance(), lost}, standing{rank: suspect, serves: true}, standing{rank: here, serves: true}},
		{"lost, it has come back", []etcd.Event{route(), instance(), lost, instance()}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
		{"lost, it was taken away", []etcd.Event{route(), instance(), lost, gone("/bulkhead/routes/h2/acme.0")}, nothing, nothing},
		{"it ended on purpose", []etcd.Event{route(), phase(cluster.Stopping), lost}, standing{starting: true}, standing{starting: true}},
		{"its host speaks of another tenant", []etcd.Event{route(), instance(func(in *cluster.Instance) { in.Tenant = "globex" })}, nothing, nothing},
		{"its host speaks for another host", []etcd.Event{route(), instance(func(in *cluster.Instance) { in.Host = "h3" })}, nothing, nothing},
		{"its host speaks of another instance", []etcd.Event{route(), instance(func(in *cluster.Instance) { in.Instance = "acme.1" })}, nothing, nothing},
		{"its route speaks of another host", []etcd.Event{route(func(r *cluster.Route) { r.Host = "h3" }), instance()}, nothing, nothing},
		{"its host's proxy has no address", []etcd.Event{route(func(r *cluster.Route) { r.Address = "" }), instance()}, nothing, standing{rank: here, serves: true}},
		{"a route that cannot be read leaves the last one", []etcd.Event{route(), instance(), {Key: "/bulkhead/routes/h2/acme.0", Value: []byte("{")}}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
		{"an instance that cannot be read leaves the last one", []etcd.Event{route(), instance(), {Key: "/bulkhead/instances/h2/acme.0", Value: []byte("{")}}, standing{rank: elsewhere, serves: true}, standing{rank: here, serves: true}},
	}
	for _, tt := range tests {
		k := known{}
		for _, e := range tt.events {
			k.apply(etcd.Batch{Events: []etcd.Event{e}}, slog.New(slog.DiscardHandler))
		}
		socket := func(string) bool { return true }
		f := k["acme"]["h2/acme.0"]
		if got := f.rank("h1", "acme", "h2/acme.0", socket); got != tt.far {
			t.Errorf("%s: another host sees %+v, want %+v", tt.sentence, got, tt.far)
		}
		if got := f.rank("h2", "acme", "h2/acme.0", socket); got != tt.near {
			t.Errorf("%s: its own host sees %+v, want %+v", tt.sentence, got, tt.near)
		}
		if k.put("acme", "h2/acme.0", fact{}); len(k) > 0 {
			t.Errorf("%s: besides there is %v", tt.sentence, k)
		}
	}
}

func TestSnapshotIsAllThereIs(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	k := known{}
	in := cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h2", Phase: cluster.Ready, Endpoint: "/x"}
	r := cluster.Route{Tenant: "acme", Instance: "acme.0", Host: "h2", Address: "a:1"}
	k.apply(etcd.Batch{Events: []etcd.Event{
		put(t, "/bulkhead/routes/h2/acme.0", r), put(t, "/bulkhead/instances/h2/acme.0", in),
		put(t, "/bulkhead/routes/h2/globex.0", r), put(t, "/bulkhead/routes/h2/not-a-number.x", r),
	}}, log)
	touched := k.apply(etcd.Batch{Snapshot: true, Events: []etcd.Event{put(t, "/bulkhead/routes/h2/acme.0", r)}}, log)
	if want := (known{"acme": {"h2/acme.0": {Route: &r, Instance: &in, Lost: true}}}); !reflect.DeepEqual(k, want) {
		t.Errorf("known is %v, want %v", k, want)
	}
	if !touched["acme"] || !touched["globex"] {
		t.Errorf("touched are %v", touched)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := k.keep(file); err != nil {
		t.Fatal(err)
	}
	if again, err := readKept(file); err != nil || !reflect.DeepEqual(again, k) {
		t.Errorf("kept, it is %v %v", again, err)
	}
}
