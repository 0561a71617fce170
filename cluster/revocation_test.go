package cluster

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRevocationsStayFew(t *testing.T) {
	now := time.Unix(1000, 0)
	var all []Revocation
	for _, step := range []struct {
		add  Revocation
		want []Revocation
	}{
		{Revocation{ID: "a", Until: 1500}, []Revocation{{ID: "a", Until: 1500}}},
		{Revocation{ID: "a", Until: 1400}, []Revocation{{ID: "a", Until: 1500}}}, // it is refused for longer
		{Revocation{ID: "a"}, []Revocation{{ID: "a"}}},
		{Revocation{ID: "a", Until: 1600}, []Revocation{{ID: "a"}}},
		{Revocation{Sum: "s", Until: 1001}, []Revocation{{ID: "a"}, {Sum: "s", Until: 1001}}},
		{Revocation{Before: 900, KID: "k"}, []Revocation{{ID: "a"}, {Sum: "s", Until: 1001}, {Before: 900, KID: "k"}}},
		{Revocation{Before: 800, KID: "k"}, []Revocation{{ID: "a"}, {Sum: "s", Until: 1001}, {Before: 900, KID: "k"}}},
		{Revocation{Before: 850}, []Revocation{{ID: "a"}, {Sum: "s", Until: 1001}, {Before: 900, KID: "k"}, {Before: 850}}},
		{Revocation{Before: 901}, []Revocation{{ID: "a"}, {Sum: "s", Until: 1001}, {Before: 901}}},
	} {
		if all = Revoke(all, step.add, now); !reflect.DeepEqual(all, step.want) {
			t.Fatalf("after %+v: %+v, want %+v", step.add, all, step.want)
		}
	}
	if all = Revoke(all, Revocation{ID: "b"}, time.Unix(1002, 0)); len(all) != 3 || all[1].Before != 901 {
		t.Errorf("what has expired stays: %+v", all)
	}
}

func TestRevocationsThatCantBeRead(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[{}]`, `[{"jti":"a","before":1}]`, `[{"jti":"a","kid":"k"}]`, `[{"before":-1}]`, `[{"sum":"a","until":-1}]`, `["a"]`,
		"[" + strings.Repeat(`{"jti":"a"},`, MaxRevocations) + `{"jti":"a"}]`,
	} {
		if all, err := DecodeRevocations([]byte(text)); err == nil {
			t.Errorf("%.60s is read as %+v", text, all)
		}
	}
	if all, err := DecodeRevocations([]byte(`[{"jti":"a","until":5},{"before":7,"kid":"k"}]`)); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}
