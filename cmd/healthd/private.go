package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/daemon"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

// Paths of what the verbs ask the daemon for.
const (
	fullPath        = "/health/full"
	targetsPath     = "/targets"
	maintenancePath = "/maintenance"
	heartbeatPath   = "/heartbeat/"
	discoveryPath   = "/sd"
)

// maintenance is what is sent to begin or to end a maintenance.
type maintenance struct {
	// Node is the ID of a node, "" for the whole machine.
	Node string `json:"node"`
	// Until is when it ends, zero for now.
	Until time.Time `json:"until,omitzero"`
}

// routes returns what the private listener serves beside metrics.
func (w *watcher) routes() []daemon.Route {
	return []daemon.Route{
		{Pattern: "GET " + fullPath, Handler: http.HandlerFunc(w.serveFull)},
		{Pattern: "GET " + probe.SummaryPath, Handler: http.HandlerFunc(w.serveSummary)},
		{Pattern: "GET " + targetsPath, Handler: http.HandlerFunc(w.serveTargets)},
		{Pattern: "GET " + targetsPath + "/{app}/metrics", Handler: http.HandlerFunc(w.scraper.One)},
		{Pattern: "GET " + targetsPath + "/{app}/{worker}/metrics", Handler: http.HandlerFunc(w.scraper.One)},
		{Pattern: "GET " + discoveryPath, Handler: http.HandlerFunc(w.scraper.Discovery)},
		{Pattern: heartbeatPath, Handler: http.StripPrefix(heartbeatPath, w.env.Heartbeats)},
	}
}

// controls returns what only the socket serves, which its file mode protects: a port on
// the loopback interface is open to every user and every page in a browser.
func (w *watcher) controls() []daemon.Route {
	return append(w.routes(), daemon.Route{Pattern: "POST " + maintenancePath, Handler: http.HandlerFunc(w.serveMaintenance)})
}

// serveFull answers with the whole truth.
func (w *watcher) serveFull(rw http.ResponseWriter, _ *http.Request) {
	s := w.snapshot.Load()
	if s == nil {
		http.Error(rw, "nothing has been judged yet", http.StatusServiceUnavailable)
		return
	}
	answerJSON(rw, s)
}

// serveSummary answers a hub. It always does: a healthd that has not judged yet is
// starting, and one that is stuck says how old its judgement is, or what that is of.
func (w *watcher) serveSummary(rw http.ResponseWriter, _ *http.Request) {
	s, now := w.snapshot.Load(), time.Now()
	if s == nil {
		s = &health.Snapshot{At: now, Standing: health.Standing{State: health.Starting}}
	}
	sum := s.Summary(now)
	sum.AgeSeconds = max(sum.AgeSeconds, w.scheduler.Age().Seconds())
	answerJSON(rw, sum)
}

func (w *watcher) serveTargets(rw http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	set := w.found
	w.mu.Unlock()
	answerJSON(rw, set)
}

// serveMaintenance begins or ends a maintenance, and answers when that is stored.
func (w *watcher) serveMaintenance(rw http.ResponseWriter, r *http.Request) {
	var m maintenance
	d := json.NewDecoder(io.LimitReader(r.Body, 4<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		http.Error(rw, "read maintenance: "+err.Error(), http.StatusBadRequest)
		return
	}
	s := w.tree.Snapshot(time.Now())
	if n := find(s, m.Node); n != nil {
		m.Node = n.ID
	}
	if err := w.tree.SetMaintenance(m.Node, m.Until); err != nil {
		http.Error(rw, err.Error()+similar(s, m.Node), http.StatusNotFound)
		return
	}
	if what := cmp.Or(m.Node, "the machine"); m.Until.IsZero() {
		w.log.Info("maintenance is off", "target", what)
	} else {
		w.log.Info("maintenance is on", "target", what, "until", m.Until)
	}
	w.judge(time.Now())
	if n := w.snapshot.Load().Node(m.Node); n != nil {
		m.Until = n.Until // of a group around it, or of the machine, if that is later
	}
	if err := w.save(); err != nil {
		w.log.Error("maintenance is not saved, a restart forgets it", "err", err)
		http.Error(rw, "it is in effect, but a restart forgets it: "+err.Error(), http.StatusInternalServerError)
		return
	}
	answerJSON(rw, m)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // an error is the client's: it has gone
}

// askTimeout bounds a question of a verb to the daemon.
const askTimeout = 10 * time.Second

// ask asks the daemon that runs here and decodes its answer into v.
func ask(ctx context.Context, c *Config, method, path string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	socket := c.socketPath()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := http.NewRequestWithContext(ctx, method, "http://healthd"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return explainAsk(socket, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // whatever there is of it
		return fmt.Errorf("ask healthd: %s", bytes.TrimSpace(text))
	}
	if err := json.NewDecoder(answer.Body).Decode(v); err != nil {
		return fmt.Errorf("read the answer of healthd: %w", err)
	}
	return nil
}

// explainAsk adds to an error of asking what to do.
func explainAsk(socket string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the URL, which is none
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cli.WithCode(cli.ExitPermission, fmt.Errorf("ask healthd at %s: %w: run as root, or as healthd's user", socket, err))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return cli.WithCode(cli.ExitUnreachable, fmt.Errorf("ask healthd at %s: %w: no healthd runs here, or private.socket is another one", socket, err))
	}
	return cli.WithCode(cli.ExitUnreachable, fmt.Errorf("ask healthd at %s: %w", socket, err))
}

// askSnapshot asks for the whole truth.
func askSnapshot(ctx context.Context, c *Config) (*health.Snapshot, error) {
	var s health.Snapshot
	if err := ask(ctx, c, http.MethodGet, fullPath, nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}
