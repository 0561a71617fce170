package butane

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	config "github.com/coreos/ignition/v2/config/v3_6"
	"github.com/coreos/ignition/v2/config/v3_6/types"
	"sigs.k8s.io/yaml"

	"bulkhead/butane/pki"
	"bulkhead/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

// readFleet decodes the fleet in testdata, as an operator's.
func readFleet(t *testing.T) cluster.Fleet {
	t.Helper()
	data, err := os.ReadFile("testdata/cluster.yaml")
	if err == nil {
		data, err = yaml.YAMLToJSONStrict(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, problems := cluster.DecodeFleet(data)
	if err := cluster.Invalid(problems); err != nil {
		t.Fatal(err)
	}
	return f
}

// input is what a host is rendered from, with stand-ins for its certificates,
// which differ every time.
func input(f cluster.Fleet, h cluster.FleetHost) Input {
	in := Input{Fleet: f, Host: h, Artifacts: Artifacts{SHA256: map[string]string{}, Image: "sha256:" + strings.Repeat("5", 64)}}
	for i, name := range append([]string{ImageFile}, cluster.Binaries...) {
		in.Artifacts.SHA256[name] = strings.Repeat(fmt.Sprint(i), 64)
	}
	var names []string
	if h.Is(cluster.RoleControl) {
		names = append(names, "etcd-ca.crt", "etcd-server.crt", "etcd-server.key", "etcd-peer-ca.crt", "etcd-peer.crt", "etcd-peer.key", "scheduler.crt", "scheduler.key")
	}
	if h.Is(cluster.RoleHost) {
		if !h.Is(cluster.RoleControl) {
			names = append(names, "etcd-ca.crt")
		}
		names = append(names, "agent.crt", "agent.key", "proxy.crt", "proxy.key", "peer-ca.crt", "peer.crt", "peer.key")
	}
	if h.Is(cluster.RoleBuilder) {
		names = append(names, "builder.crt", "builder.key")
	}
	for _, name := range names {
		in.Keys = append(in.Keys, pki.File{Name: name, Data: []byte("-- " + name + " of " + h.Name + " --\n")})
	}
	return in
}

// variants calls f for each variant and each host in testdata: one of each
// role, and one of both.
func variants(t *testing.T, f func(t *testing.T, in Input)) {
	for _, variant := range []string{"fcos", "flatcar"} {
		fleet := readFleet(t)
		fleet.Variant = variant
		for _, h := range fleet.Hosts {
			t.Run(variant+"-"+strings.Join(h.Roles, "-"), func(t *testing.T) { f(t, input(fleet, h)) })
		}
	}
}

func TestRenderedHostsMatchGoldenFiles(t *testing.T) {
	variants(t, func(t *testing.T, in Input) {
		text, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		ignition, err := Ignition(text)
		if err != nil {
			t.Fatal(err)
		}
		for ending, got := range map[string][]byte{".bu": text, ".ign": ignition} {
			golden := filepath.Join("testdata", strings.TrimPrefix(t.Name(), "TestRenderedHostsMatchGoldenFiles/")+ending)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s is rendered differently (go test ./butane -update accepts it):\n%s", golden, got)
			}
		}
	})
}

// parse is what Ignition itself, in the version that test hosts run, makes of
// what is rendered.
func parse(t *testing.T, in Input) types.Config {
	t.Helper()
	text, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	ignition, err := Ignition(text)
	if err != nil {
		t.Fatal(err)
	}
	c, report, err := config.ParseCompatibleVersion(ignition)
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("Ignition's own parser: %v %s", err, report.String())
	}
	return c
}

func TestIgnitionTakesWhatIsRendered(t *testing.T) {
	variants(t, func(t *testing.T, in Input) {
		c := parse(t, in)
		files := map[string]types.File{}
		for _, f := range c.Storage.Files {
			files[f.Path] = f
			if strings.HasSuffix(f.Path, ".key") && *f.Mode != 0o600 {
				t.Errorf("%s has mode %o", f.Path, *f.Mode)
			}
			if strings.HasPrefix(f.Path, proxyDir) && (f.User.ID == nil || *f.User.ID != ProxyUser) {
				t.Errorf("%s is not its reader's", f.Path)
			}
			if source := *f.Contents.Source; strings.HasPrefix(source, "http") && f.Contents.Verification.Hash == nil {
				t.Errorf("%s is fetched unverified", f.Path)
			}
		}
		dir := releases + "/" + cluster.ReleaseDir(in.Artifacts.Release().Digest())
		for _, name := range cluster.Binaries {
			if f, ok := files[dir+"/"+name]; !ok || *f.Mode != 0o755 || *f.Contents.Source != "http://10.0.0.254:8000/"+name {
				t.Errorf("%s is not fetched as it should be", name)
			}
		}
		_, etcd := files["/etc/bulkhead/etcd.yaml"]
		_, docker := files["/etc/docker/daemon.json"]
		if etcd != in.Host.Is(cluster.RoleControl) || docker != in.Host.Is(cluster.RoleHost) {
			t.Errorf("roles %v: etcd %v, Docker %v", in.Host.Roles, etcd, docker)
		}
		if _, zincati := files["/etc/zincati/config.d/55-bulkhead.toml"]; zincati != (in.Fleet.Variant == "fcos") {
			t.Errorf("Zincati's configuration: %v", zincati)
		}
	})
}

func TestDaemonConfigurationIsJSON(t *testing.T) {
	f := readFleet(t)
	h, err := newHost(input(f, f.Hosts[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range h.Files {
		if file.Path != "/etc/docker/daemon.json" {
			continue
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(file.Text), &v); err != nil || v["live-restore"] != true {
			t.Errorf("daemon.json: %v: %s", err, file.Text)
		}
		return
	}
	t.Error("there is no daemon.json")
}

// A host's file must not hold what another's certificate needs, nor any
// authority's key.
func TestHostsGetTheirOwnKeysOnly(t *testing.T) {
	f := readFleet(t)
	dir := filepath.Join(t.TempDir(), "pki")
	d, err := pki.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ensure(f); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{} // a line of each key, by file
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".key") {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			secrets[name] = strings.Split(string(data), "\n")[2] // the first is the same for all of a kind
		}
		return err
	})
	if err != nil || len(secrets) < 10 {
		t.Fatalf("%d keys, %v", len(secrets), err)
	}
	for _, h := range f.Hosts {
		keys, err := d.Host(h)
		if err != nil {
			t.Fatal(err)
		}
		in := input(f, h)
		in.Keys = keys
		text, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		own := 0
		for name, secret := range secrets {
			mine := strings.HasPrefix(name, "hosts/"+h.Name+"/")
			if has := strings.Contains(string(text), secret); has != mine {
				t.Errorf("host %s: key %s is in its file: %v", h.Name, name, has)
			} else if has {
				own++
			}
		}
		if own == 0 {
			t.Errorf("host %s has no key", h.Name)
		}
	}
}

// systemd's own tools on the units, below a root that has what they name.
func TestSystemdAcceptsRenderedUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	f := readFleet(t)
	for _, h := range f.Hosts {
		root := t.TempDir()
		dir := filepath.Join(root, "etc/systemd/system")
		if err := os.MkdirAll(filepath.Join(root, binDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(root, "usr/lib/systemd/system"), os.DirFS("/usr/lib/systemd/system")); err != nil {
			t.Fatal(err)
		}
		put := func(path, text string, mode os.FileMode) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
		}
		put(filepath.Join(root, binDir, "bulkhead"), "#!/bin/true\n", 0o755)
		// Docker's own unit, of which ours is a part.
		put(filepath.Join(root, "usr/bin/dockerd"), "#!/bin/true\n", 0o755)
		put(filepath.Join(dir, "docker.socket"), "[Socket]\nListenStream=/run/docker.sock\n", 0o644)
		put(filepath.Join(dir, "docker.service"), "[Unit]\nRequires=docker.socket\n[Service]\nType=notify\nExecStart=/usr/bin/dockerd --conflicting\n", 0o644)
		args := []string{"verify", "--man=no", "--root=" + root}
		for _, u := range parse(t, input(f, h)).Systemd.Units {
			if u.Contents != nil {
				put(filepath.Join(dir, u.Name), *u.Contents, 0o644)
				exposed(t, filepath.Join(dir, u.Name))
			}
			for _, d := range u.Dropins {
				put(filepath.Join(dir, u.Name+".d", d.Name), *d.Contents, 0o644)
			}
			args = append(args, u.Name)
		}
		if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("host %s: systemd-analyze %s: %v\n%s", h.Name, strings.Join(args, " "), err, out)
		}
	}
}

// exposed holds units to what "systemd-analyze security" calls their exposure,
// in tenths. The agent starts containers and mounts: it is root.
func exposed(t *testing.T, path string) {
	t.Helper()
	threshold, ok := map[string]string{"bulkhead-etcd.service": "15", "bulkhead-scheduler.service": "15", "bulkhead-agent.service": "85", "bulkhead-builder.service": "50"}[filepath.Base(path)]
	if !ok {
		t.Fatalf("how exposed may %s be?", path)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+threshold, path).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", path, err, out)
	}
}

func TestIgnitionRefusesWhatButaneOnlyWarnsOf(t *testing.T) {
	for sentence, text := range map[string]string{
		"an unknown key":    "variant: fcos\nversion: 1.7.0\nstorag: {}\n",
		"another variant":   "variant: beos\nversion: 1.7.0\n",
		"nothing at all":    "",
		"a unit that isn't": "variant: fcos\nversion: 1.7.0\nsystemd: {units: [{name: a.service, contents: \"[Unit\"}]}\n",
	} {
		if out, err := Ignition([]byte(text)); err == nil {
			t.Errorf("%s: accepted: %s", sentence, out)
		}
	}
}
