package waking

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pair is a connection between a runner and its agent.
func pair(t *testing.T) (runner, agent *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(t.TempDir(), Socket), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := net.DialUnix("unixpacket", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); a.Close() })
	return r, a
}

func TestAnswersCarryFiles(t *testing.T) {
	runner, agent := pair(t)
	if err := Send(runner, Ask{Op: Wake}); err != nil {
		t.Fatal(err)
	}
	var ask Ask
	if files, err := Receive(agent, &ask); err != nil || ask.Op != Wake || len(files) != 0 {
		t.Fatalf("the agent got %+v with %d files, %v", ask, len(files), err)
	}
	var sent []*os.File
	for _, text := range []string{"tree", "freezer"} {
		path := filepath.Join(t.TempDir(), text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, f)
	}
	if err := Send(agent, Answer{Freeze: "1", Thaw: "0"}, sent...); err != nil {
		t.Fatal(err)
	}
	Close(sent)
	if err := Send(agent, Answer{Idle: true}); err != nil { // a message of its own
		t.Fatal(err)
	}
	var a Answer
	files, err := Receive(runner, &a)
	if err != nil || a.Freeze != "1" || a.Idle || len(files) != 2 {
		t.Fatalf("the runner got %+v with %d files, %v", a, len(files), err)
	}
	for i, want := range []string{"tree", "freezer"} {
		if got, err := io.ReadAll(files[i]); err != nil || string(got) != want {
			t.Errorf("file %d holds %q (%v), want %q", i, got, err, want)
		}
	}
	Close(files)
	if files, err := Receive(runner, &a); err != nil || !a.Idle || len(files) != 0 {
		t.Errorf("then %+v with %d files, %v", a, len(files), err)
	}
}

func TestWhatIsNoMessageIsAnError(t *testing.T) {
	for sentence, packet := range map[string]string{
		"nothing of JSON": "wake", "too long": `{"op":"` + strings.Repeat("x", 2*maxMessage) + `"}`,
	} {
		runner, agent := pair(t)
		if _, err := runner.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
		var ask Ask
		if _, err := Receive(agent, &ask); err == nil {
			t.Errorf("%s: taken as %+v", sentence, ask)
		}
	}
	runner, agent := pair(t)
	runner.Close()
	if _, err := Receive(agent, &Ask{}); err == nil {
		t.Error("a closed connection gives a message")
	}
}
