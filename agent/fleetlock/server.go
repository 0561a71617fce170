package fleetlock

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"
)

// Kinds of refusals: metrics have them as labels, so there are few.
const (
	badRequest = "bad_request" // nothing of the protocol
	wrongID    = "wrong_id"    // another machine's
	notGranted = "not_granted" // its turn has not come
	notHealthy = "not_healthy" // its turn is not over
	noCluster  = "unavailable" // etcd can't be asked
)

// maxBody bounds a request, in bytes.
const maxBody = 16 << 10

// Server answers this machine's own updates.
type Server struct {
	Turn Turn
	ID   string // of this machine: MachineID
	Log  *slog.Logger

	// TakePatience is how long who asks for its turn is kept waiting, by
	// default 25 minutes: Zincati gives up after 30, and asks again five after
	// a refusal. GivePatience is likewise for who gives it back, by default 2
	// minutes: so long a host may take to be seen to be well.
	TakePatience, GivePatience time.Duration
}

// Serve answers on ln until ctx ends; requests that wait are refused then.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot answer this machine's updates: %w", err)
	}
	return nil
}

// Handler is the protocol.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/pre-reboot", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, s.Turn.Take, cmp.Or(s.TakePatience, 25*time.Minute), refusal{http.StatusConflict, notGranted,
			"its turn has not come: other hosts are at it, or this one is being drained; bulkhead rollout locks says more"})
	})
	mux.HandleFunc("POST /v1/steady-state", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, s.Turn.Give, cmp.Or(s.GivePatience, 2*time.Minute), refusal{http.StatusConflict, notHealthy,
			"its turn is not over: the host has not been seen to be well; bulkhead rollout locks says more"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refusal{http.StatusNotFound, badRequest, "there are POST /v1/pre-reboot and POST /v1/steady-state"}.write(w)
	})
	return mux
}

// refusal is an answer that is not 200.
type refusal struct {
	status int
	Kind   string `json:"kind"`
	Value  string `json:"value"`
}

func (r refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(r) // who has gone gets nothing
}

// answer does what a request asks for, within patience, and answers late with a
// refusal.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, group, id string) error, patience time.Duration, late refusal) {
	params, no := s.read(r)
	if no != nil {
		no.write(w)
		return
	}
	log := s.Log.With("request", r.URL.Path, "group", params.Group)
	log.Info("this machine's updates ask")
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	err := do(ctx, params.Group, params.ID)
	switch {
	case err == nil:
		log.Info("this machine's updates may go on")
		w.WriteHeader(http.StatusOK)
	case r.Context().Err() != nil:
		log.Info("this machine's updates have gone without an answer")
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		log.Info("this machine's updates are refused", "kind", late.Kind)
		late.write(w)
	default:
		log.Warn("this machine's updates are refused", "kind", noCluster, "error", err)
		refusal{http.StatusServiceUnavailable, noCluster, err.Error()}.write(w)
	}
}

// params is who asks.
type params struct {
	ID    string `json:"id"`
	Group string `json:"group"`
}

var groupName = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

// read reads a request. Its type is not looked at: Zincati sends none.
func (s *Server) read(r *http.Request) (params, *refusal) {
	var body struct {
		Params params `json:"client_params"`
	}
	bad := func(format string, args ...any) (params, *refusal) {
		return params{}, &refusal{http.StatusBadRequest, badRequest, fmt.Sprintf(format, args...)}
	}
	if r.Header.Get("fleet-lock-protocol") != "true" {
		return bad("this speaks FleetLock: want the header fleet-lock-protocol: true")
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(data, &body)
	}
	if err != nil {
		return bad(`cannot read the body: %v; want {"client_params": {"id": …, "group": …}}`, err)
	}
	p := body.Params
	if !groupName.MatchString(p.Group) {
		return bad("group %q: want letters, digits, dots and dashes", p.Group)
	}
	if p.ID != s.ID {
		return params{}, &refusal{http.StatusForbidden, wrongID,
			fmt.Sprintf("this host answers its own machine only, which is %s and not %q", s.ID, p.ID)}
	}
	return p, nil
}
