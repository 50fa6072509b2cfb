package output_test

import (
	"errors"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// TestGroupDoesNotWaitForOneOfSeveral: a target that asks for time is left alone, but
// another one need not wait.
func TestGroupDoesNotWaitForOneOfSeveral(t *testing.T) {
	cause := errors.New("answer 503")
	for targets, want := range map[int]time.Duration{1: time.Minute, 2: 0} {
		n := startNode(t)
		var o output.GroupOptions
		for range targets {
			o.Targets = append(o.Targets, output.Target{Name: "n", Output: errTarget{
				output.NewTCP(output.TCPOptions{Address: n.Addr("tcp")}), &output.Held{After: time.Minute, Operator: true, Err: cause}}})
		}
		g := output.NewGroup(o)
		if err := g.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		err := g.Send(within(t), frames(0, 1))
		var held *output.Held
		if !errors.As(err, &held) || held.After != want || !held.Operator || !errors.Is(err, cause) || err.Error() != cause.Error() {
			t.Errorf("%d targets: got %#v", targets, err)
		}
		if f := g.Status().Failures[0]; f != 1 {
			t.Errorf("%d targets: %d failures", targets, f)
		}
		g.Abort()
	}
}

// TestGroupIsPromptIfItsTargetIs: whether a cut costs nothing depends on where it goes.
func TestGroupIsPromptIfItsTargetIs(t *testing.T) {
	tcp, _ := start(t, gelftest.Options{})
	web, _ := startHTTP(t, gelftest.Options{})
	for _, tt := range []struct {
		out  output.Output
		want bool
	}{
		{output.NewTCP(output.TCPOptions{Address: tcp.Addr("tcp")}), false},
		{output.NewHTTP(httpOptions(web.Addr("http"))), true},
	} {
		g := output.NewGroup(output.GroupOptions{Targets: []output.Target{{Name: "n", Output: tt.out}}})
		if g.Taken() {
			t.Error("prompt before Connect")
		}
		if err := g.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		if got := g.Taken(); got != tt.want {
			t.Errorf("%T: got %v", tt.out, got)
		}
		g.Abort()
	}
}
