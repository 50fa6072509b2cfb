package output_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// node is a receiver with a state for load balancers.
type node struct {
	*gelftest.Input
	log    *gelftest.Log
	status atomic.Int64 // what lbstatus answers
	url    string
}

func startNode(t *testing.T) *node {
	t.Helper()
	n := &node{}
	n.Input, n.log = start(t, gelftest.Options{})
	n.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(n.status.Load()))
	}))
	t.Cleanup(server.Close)
	n.url = server.URL + "/api/system/lbstatus"
	return n
}

// group returns a group over nodes that asks for their states if ask is set. It is
// aborted at the end of the test.
func group(t *testing.T, o output.GroupOptions, ask bool, nodes ...*node) *output.Group {
	t.Helper()
	for _, n := range nodes {
		target := output.Target{Name: n.Addr("tcp"), Output: output.NewTCP(output.TCPOptions{Address: n.Addr("tcp")})}
		if ask {
			target.LBStatus = n.url
		}
		o.Targets = append(o.Targets, target)
	}
	o.LBEvery = time.Millisecond
	g := output.NewGroup(o)
	t.Cleanup(g.Abort)
	return g
}

func connectGroup(t *testing.T, g *output.Group, to *node) {
	t.Helper()
	if err := g.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	wantTarget(t, g, to)
}

func wantTarget(t *testing.T, g *output.Group, n *node) {
	t.Helper()
	if s := g.Status(); s.Target != n.Addr("tcp") {
		t.Fatalf("target is %s, want %s", s.Target, n.Addr("tcp"))
	}
}

// await returns when an event of kind comes, and fails at one that means failure.
func await(t *testing.T, g *output.Group, kind output.EventKind) {
	t.Helper()
	for {
		switch e := event(t, g); e.Kind {
		case kind:
			return
		case output.Failed, output.Confirmed:
			t.Fatalf("got event %+v, want kind %d", e, kind)
		}
	}
}

// confirm makes a cut and waits for its confirmation, over what else happens.
func confirm(t *testing.T, g *output.Group, id uint64) {
	t.Helper()
	for {
		done, err := g.Cut(within(t), id, false)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
		await(t, g, output.NextReady)
	}
	await(t, g, output.Confirmed)
}

// A connection that breaks is one failure, however many tell of it.
func TestGroupCountsAFailureOnce(t *testing.T) {
	n := startNode(t)
	g := group(t, output.GroupOptions{}, false, n)
	for failures := range uint64(2) {
		connectGroup(t, g, n)
		send(t, g, frames(0, 10))
		if err := n.log.WaitFor(within(t), int(10*(failures+1))); err != nil {
			t.Fatal(err)
		}
		n.Reset()
		if e := event(t, g); e.Kind != output.Failed {
			t.Fatalf("got event %+v", e)
		}
		if err := g.Send(within(t), []byte("{}\x00")); err == nil {
			t.Fatal("sent over a connection that was reset")
		}
		if got := g.Status().Failures[0]; got != failures+1 {
			t.Errorf("%d failures, want %d", got, failures+1)
		}
		g.Abort()
	}
}

func TestGroupFailsOverAndComesBack(t *testing.T) {
	first, second := startNode(t), startNode(t)
	first.RefuseNew()
	g := group(t, output.GroupOptions{Reconnect: 50 * time.Millisecond}, false, first, second)
	if err := g.Connect(within(t)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("first is down: %v", err)
	}
	connectGroup(t, g, second)
	send(t, g, frames(0, 10))
	await(t, g, output.Leave) // first is still down: a new connection to second
	confirm(t, g, 1)
	wantTarget(t, g, second)
	send(t, g, frames(10, 20))

	if err := first.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	id := uint64(1)
	for g.Status().Target == second.Addr("tcp") {
		await(t, g, output.Leave)
		id++
		confirm(t, g, id)
	}
	wantNumbers(t, second.log, 20) // confirmed before the move
	send(t, g, frames(0, 5))
	confirm(t, g, id+1)
	wantNumbers(t, first.log, 5)
	if f := g.Status().Failures; f[0] == 0 || f[1] != 0 {
		t.Errorf("failures %d", f)
	}
	wantNoConns(t, second)
}

// A target that takes connections and breaks them comes last until it has
// confirmed something.
func TestGroupLeavesATargetWhoseConnectionsBreak(t *testing.T) {
	first, second := startNode(t), startNode(t)
	g := group(t, output.GroupOptions{}, false, first, second)
	connectGroup(t, g, first)
	breakAll(t, first)
	want(t, g, output.Failed)
	g.Abort()
	connectGroup(t, g, second)
	breakAll(t, second)
	want(t, g, output.Failed)
	g.Abort()
	connectGroup(t, g, first) // failed longest ago
	send(t, g, frames(0, 1))
	confirm(t, g, 1)
	g.Abort()
	connectGroup(t, g, first)
}

// breakAll resets the connection to n.
func breakAll(t *testing.T, n *node) {
	t.Helper()
	if err := n.WaitConns(within(t), 1); err != nil {
		t.Fatal(err)
	}
	n.Reset()
}

// wantNoConns waits until n sees that it was left.
func wantNoConns(t *testing.T, n *node) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := within(t); ; {
		open, _ := n.Conns()
		if open == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatalf("%d connections to a target that was left", open)
		}
	}
}

// errTarget is an output whose Send fails.
type errTarget struct {
	output.Output
	err error
}

func (e errTarget) Send(context.Context, []byte) error { return e.err }

// A message that is rejected says nothing about the target.
func TestGroupDoesNotBlameATargetForAMessage(t *testing.T) {
	for err, failures := range map[error]uint64{errors.New("reset"): 1, &output.Rejected{Err: errors.New("too long")}: 0} {
		n := startNode(t)
		g := output.NewGroup(output.GroupOptions{Targets: []output.Target{{Name: "n",
			Output: errTarget{output.NewTCP(output.TCPOptions{Address: n.Addr("tcp")}), err}}}})
		if err := g.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		if got := g.Send(within(t), frames(0, 1)); !errors.Is(got, err) {
			t.Errorf("got %v", got)
		}
		if f := g.Status().Failures[0]; f != failures {
			t.Errorf("%v: %d failures, want %d", err, f, failures)
		}
		g.Abort()
	}
}

func TestGroupHoldsWhileTheNodeIsThrottled(t *testing.T) {
	n := startNode(t)
	g := group(t, output.GroupOptions{}, true, n)
	n.status.Store(http.StatusTooManyRequests)
	connectGroup(t, g, n)
	want(t, g, output.Hold)
	if !g.Status().Held {
		t.Error("status does not say so")
	}
	n.status.Store(http.StatusNotFound) // does not count
	want(t, g, output.Resume)
	n.status.Store(http.StatusTooManyRequests)
	want(t, g, output.Hold)
	n.status.Store(http.StatusOK)
	want(t, g, output.Resume)
	if g.Status().Held {
		t.Error("status says that it is held")
	}
}

func TestGroupMovesAwayFromANodeThatStops(t *testing.T) {
	first, second := startNode(t), startNode(t)
	g := group(t, output.GroupOptions{}, true, first, second)
	connectGroup(t, g, first)
	send(t, g, frames(0, 10))
	if done, err := g.Cut(within(t), 1, false); done || err != nil {
		t.Fatal(done, err)
	}
	await(t, g, output.NextReady) // first has a connection that is not needed any more
	first.status.Store(http.StatusServiceUnavailable)
	await(t, g, output.Leave)
	confirm(t, g, 1)
	wantTarget(t, g, second)
	wantNumbers(t, first.log, 10)
	wantNoConns(t, first)
	for g.Status().Held { // it was held until the move
		event(t, g)
	}
	send(t, g, frames(0, 3))
	confirm(t, g, 2)
	wantNumbers(t, second.log, 3)

	// Both: nothing to move to, so hold, and do not connect.
	second.status.Store(http.StatusServiceUnavailable)
	await(t, g, output.Hold)
	wantTarget(t, g, second)
	g.Abort()
	for range 2 {
		if err := g.Connect(within(t)); !errors.As(err, new(*output.Held)) || !strings.Contains(err.Error(), "about to stop") {
			t.Fatalf("got %v", err)
		}
	}
	first.status.Store(http.StatusOK)
	connectGroup(t, g, first)
}

// A next target that breaks before it is used is no failure of the connection.
func TestGroupForgetsANextTargetThatBreaks(t *testing.T) {
	first, second := startNode(t), startNode(t)
	first.RefuseNew()
	g := group(t, output.GroupOptions{Reconnect: 20 * time.Millisecond}, false, first, second)
	if err := g.Connect(within(t)); err == nil {
		t.Fatal("first is down")
	}
	connectGroup(t, g, second)
	send(t, g, frames(0, 10))
	if err := first.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	if err := first.WaitConns(within(t), 1); err != nil {
		t.Fatal(err)
	}
	first.RefuseNew()
	failures := g.Status().Failures[0]
	first.Reset()
	for g.Status().Failures[0] == failures {
		await(t, g, output.Leave)
	}
	confirm(t, g, 1)
	wantTarget(t, g, second)
	wantNumbers(t, second.log, 10)
}

func TestGroupAtRandomUsesAll(t *testing.T) {
	nodes := []*node{startNode(t), startNode(t), startNode(t)}
	g := group(t, output.GroupOptions{Random: true, Reconnect: time.Millisecond}, false, nodes...)
	if err := g.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for id := uint64(1); len(used) < len(nodes); id++ {
		used[g.Status().Target] = true
		send(t, g, frames(0, 1))
		await(t, g, output.Leave)
		confirm(t, g, id)
	}
}

func TestGroupIsNotConnected(t *testing.T) {
	g := group(t, output.GroupOptions{}, false, startNode(t))
	if err := g.Send(within(t), frames(0, 1)); err == nil {
		t.Error("sent without a connection")
	}
	if _, err := g.Cut(within(t), 1, false); err == nil {
		t.Error("cut without a connection")
	}
	g.Abort()
}
