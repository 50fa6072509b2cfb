package health_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/health"
)

func TestSummary(t *testing.T) {
	shop, pay := health.Node{ID: "shop", Public: "Big Shop"}, leaf("pay")
	pay.Public, pay.Weight = "Payments", health.Degraded
	nodes := []health.Node{shop, pay}
	for i := range 6 {
		nodes = append(nodes, leaf(fmt.Sprintf("shop/%d", i)))
	}
	m := start(t, nodes...)
	summary := func() *health.Summary {
		s := m.Snapshot(m.now)
		return s.Summary(m.now.Add(1500 * time.Millisecond))
	}
	for _, n := range nodes[1:] {
		m.see(n.ID, "p")
	}
	well := health.Brief{State: pass, Up: true}
	want := &health.Summary{Format: 1, At: m.now, AgeSeconds: 1.5, Brief: well, Services: map[string]health.Brief{"big-shop": well, "payments": well}}
	if d := cmp.Diff(want, summary()); d != "" {
		t.Error(d)
	}
	b, err := json.Marshal(summary())
	if err != nil || string(b) != `{"healthd":1,"at":"2026-11-20T12:00:00Z","age_seconds":1.5,"state":"pass","up":true,"services":{"big-shop":{"state":"pass","up":true},"payments":{"state":"pass","up":true}}}` {
		t.Errorf("%s %v", b, err)
	}

	// The first few reasons, and those cut: it stays small.
	for i := range 6 {
		m.Observe(fmt.Sprintf("shop/%d", i), m.now, health.Result{State: fail, Text: strings.Repeat("ü", 200)})
	}
	m.see("pay", "f")
	s := summary()
	if s.State != fail || s.Up || len(s.Why) != 5 || s.Why[4] != "and 2 more" {
		t.Errorf("%+v", s)
	}
	if d := cmp.Diff(health.Brief{State: fail, Why: []string{"it is fail"}}, s.Services["payments"]); d != "" {
		t.Error(d)
	}
	if why := s.Services["big-shop"].Why; len(why) != 5 || why[4] != "and 2 more" || !strings.HasPrefix(why[0], "shop/0: fail: üüü") || len(why[0]) > 125 {
		t.Errorf("%q", why)
	}
	if b, err := json.Marshal(s); err != nil || len(b) > 1500 {
		t.Errorf("%d bytes %v", len(b), err)
	}
}
