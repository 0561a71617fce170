package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// patterns are what is looked for: each secret as it is, and as it would stand
// in what encodes bytes as text.
func (h *hoard) patterns() (all []string) {
	for _, value := range h.secrets {
		all = append(all, forms(value)...)
	}
	slices.Sort(all)
	return all
}

// forms are how a secret may stand in a text. In base64 it looks different by
// where it begins among what is encoded with it.
func forms(value string) []string {
	all := []string{value, hex.EncodeToString([]byte(value))}
	for before := range 3 {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := e.EncodeToString(append(make([]byte, before), value...))
			all = append(all, text[4:len(text)-4]) // what is beside it is in the first and the last letters
		}
	}
	return all
}

// surfaces are where a secret might be left, each a command that prints a line
// "place TAB pattern" for each that it finds.
func (h *hoard) surfaces() map[string]string {
	in := func(what string) string {
		return fmt.Sprintf(`{ %s; } 2>/dev/null | grep -aoF -f %s/patterns | sort -u | sed "s|^|$place\t|"`, what, h.dir)
	}
	files := func(dirs string) string {
		return fmt.Sprintf(`find %s -type f 2>/dev/null | while read -r place; do %s; done`, dirs, in(`cat "$place"`))
	}
	etcdctl := "ETCDCTL_API=3 etcdctl --endpoints " + h.etcd
	return map[string]string{
		"state":   files(h.state),
		"run":     files(h.runs),
		"units":   files("/etc/systemd /run/systemd/system /run/systemd/transient"),
		"logs":    files("/var/log"),
		"etcd":    fmt.Sprintf(`%s get "" --from-key --keys-only | grep . | while read -r place; do %s; done`, etcdctl, in(etcdctl+` get "$place"`)),
		"argv":    `for place in /proc/[0-9]*/cmdline; do ` + in(`cat $place`) + `; done`,
		"environ": `for place in /proc/[0-9]*/environ; do ` + in(`cat $place`) + `; done`,
		"docker":  `for place in $(docker ps -aq); do ` + in(`docker inspect $place; docker logs $place 2>&1`) + `; done`,
		"systemd": `place=systemctl; ` + in(`systemctl show --all '*'; systemctl show-environment; systemctl cat '*'`),
		"journal": `place=journal; ` + in(`journalctl --no-pager -o export`),
		"says":    `place=commands; ` + in(strings.Join(h.questions(), "; ")),
	}
}

// questions are commands whose output people copy into tickets.
func (h *hoard) questions() (all []string) {
	for _, args := range [][]string{
		{"status"}, {"status", "-o", "json"}, {"tenant", "show", "put"}, {"tenant", "show", "applied", "-o", "json"},
		{"function", "list", "put", "-o", "json"}, {"logs", "put", "--state", h.state}, {"logs", "applied", "--state", h.state}, {"secrets", "status"},
	} {
		all = append(all, strings.Join(h.command(args...), " ")+" 2>&1")
	}
	return all
}

// hits searches all surfaces.
func (h *hoard) hits() (all []hit) {
	h.t.Helper()
	for name := range h.surfaces() {
		all = append(all, h.search(name)...)
	}
	return all
}

func (h *hoard) search(surface string) (all []hit) {
	h.t.Helper()
	for line := range strings.Lines(h.run("sh", "-c", h.surfaces()[surface])) {
		place, pattern, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			h.t.Fatalf("searching %s printed something else than what it found", surface)
		}
		for name, value := range h.secrets {
			if slices.Contains(forms(value), pattern) {
				all = append(all, hit{name, surface, place})
			}
		}
	}
	return all
}

// planted puts a decoy where each surface must see it, and takes it away again.
func (h *hoard) planted() {
	h.t.Helper()
	plants := map[string][2]string{
		"state":   {`cp SECRET STATE/planted`, `rm STATE/planted`},
		"run":     {`cp SECRET RUN/planted`, `rm RUN/planted`},
		"units":   {`mkdir -p /etc/systemd/system; cp SECRET /etc/systemd/system/planted.conf`, `rm /etc/systemd/system/planted.conf`},
		"logs":    {`cp SECRET /var/log/planted.log`, `rm /var/log/planted.log`},
		"etcd":    {`STORE put /planted <SECRET`, `STORE del /planted`},
		"argv":    {`setsid sh -c 'sleep 600; :' "$(cat SECRET)" >/dev/null 2>&1 & echo $! >DIR/pid`, `kill -- -$(cat DIR/pid)`},
		"environ": {`PLANTED="$(cat SECRET)" setsid sleep 600 >/dev/null 2>&1 & echo $! >DIR/pid`, `kill $(cat DIR/pid)`},
		"docker":  {`docker create --name planted-secret --env "PLANTED=$(cat SECRET)" $(docker images -q | head -n 1) true`, `docker rm planted-secret`},
		"says":    {`STORE put /bulkhead/cordons/` + h.name + ` <SECRET`, `STORE del /bulkhead/cordons/` + h.name},
	}
	if _, err := h.try("test", "-d", "/run/systemd/system"); err == nil {
		plants["systemd"] = [2]string{`systemctl set-environment "PLANTED=$(cat SECRET)"`, `systemctl unset-environment PLANTED`}
		plants["journal"] = [2]string{`systemd-cat <SECRET; journalctl --sync`, `true`}
	}
	for surface, plant := range plants {
		words := strings.NewReplacer("SECRET", h.dir+"/decoy", "DIR", h.dir, "STATE", h.state, "RUN", h.runs, "STORE", "ETCDCTL_API=3 etcdctl --endpoints "+h.etcd)
		h.run("sh", "-c", words.Replace(plant[0]))
		if hits := h.search(surface); !slices.ContainsFunc(hits, func(hit hit) bool { return hit.secret == "decoy" }) {
			h.t.Errorf("a secret that was put there on purpose is not found by %s, which finds %q", surface, texts(hits))
		}
		h.run("sh", "-c", words.Replace(plant[1]))
	}
}
