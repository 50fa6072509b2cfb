package public_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sidecar/internal/health"
	"sidecar/internal/public"
)

// visited is a site with an audience of its own.
type visited struct {
	*site
	*public.Audience
}

func visit(t testing.TB, o public.AudienceOptions) *visited {
	v := &visited{}
	now := noon()
	o.Now = func() time.Time {
		if v.site != nil {
			return v.site.now
		}
		return now
	}
	v.Audience = public.NewAudience(o)
	v.site = open(t, public.Options{Audience: v.Audience}, leaf("n", "App"))
	v.set("n", health.Pass)
	v.publish()
	return v
}

func (v *visited) come(agent, path string) {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("User-Agent", agent)
	v.ServeHTTP(httptest.NewRecorder(), r)
}

func (v *visited) wantCheck(state health.State, text string) {
	v.Helper()
	if r := v.Audience.Check(v.Context()); r.State != state || r.Text != text {
		v.Errorf("%v %q, want %v %q", r.State, r.Text, state, text)
	}
}

// TestMonitors has the User-Agent headers that monitors send.
func TestMonitors(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)":                                 "uptimerobot",
		"Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)":                                                  "pingdom",
		"Better Uptime Bot Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)":                                      "betterstack",
		"Mozilla/5.0 (Windows NT 6.1; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0 StatusCake": "statuscake",
		"FreshpingBot/1.0 (+https://freshping.io/)":                                                              "freshping",
		"Uptime-Kuma/1.23.11":                     "uptime-kuma",
		"Amazon-Route53-Health-Check-Service (x)": "route53",
		"Blackbox Exporter/0.25.0":                "blackbox",
		"our own":                                 "ours",
		"UptimeRobot/3.0":                         "ours",
		"curl/7.88.1":                             "other",
		"":                                        "other",
		strings.Repeat("x", 256) + "UptimeRobot/": "other",
	} {
		v := visit(t, public.AudienceOptions{Monitors: []public.Monitor{{Name: "ours", Agent: "our own"}, {Name: "ours", Agent: "UptimeRobot/3"}}})
		v.come(agent, "/health")
		last := v.Last()
		if at, ok := last[want]; len(last) != 1 || !ok || !at.Equal(noon()) {
			t.Errorf("%q: %v, want %s", agent, last, want)
		}
	}
}

func TestNobodyComesAnyMore(t *testing.T) {
	v := visit(t, public.AudienceOptions{})
	v.wantCheck(health.Pass, "no known monitor has come yet")
	v.come("curl/7.88.1", "/health")
	v.now = v.now.Add(time.Hour)
	v.wantCheck(health.Pass, "no known monitor has come yet")
	v.publish()
	v.come("UptimeRobot/2.0", "/health/nobody") // no answer, no visit
	v.wantCheck(health.Pass, "no known monitor has come yet")
	v.come("UptimeRobot/2.0", "/health")
	v.now = v.now.Add(time.Minute)
	v.come("Pingdom.com_bot", "/health") // 503 by now is an answer too
	v.now = v.now.Add(public.DefaultQuiet)
	v.wantCheck(health.Pass, "")
	v.now = v.now.Add(1)
	v.wantCheck(health.Warn, "no monitor comes any more: the last was pingdom at 2026-11-20T13:01:00Z")
	v.come("UptimeRobot/2.0", "/health")
	v.wantCheck(health.Pass, "")
}

func TestExpectedMonitors(t *testing.T) {
	v := visit(t, public.AudienceOptions{Expect: []string{"uptimerobot", "mine", "pingdom"}, Quiet: time.Minute})
	v.wantCheck(health.Pass, "")
	v.now = v.now.Add(time.Minute)
	v.wantCheck(health.Pass, "")
	v.come("UptimeRobot/2.0", "/health")
	v.come("StatusCake", "/health")
	v.now = v.now.Add(time.Second)
	v.wantCheck(health.Warn, "mine has not come since 2026-11-20T12:00:00Z; pingdom has not come since 2026-11-20T12:00:00Z")
}

func TestAudienceIsRemembered(t *testing.T) {
	v := visit(t, public.AudienceOptions{})
	v.come("UptimeRobot/2.0", "/health")
	b, err := v.Save()
	if err != nil {
		t.Fatal(err)
	}
	next := visit(t, public.AudienceOptions{})
	if err := next.Restore([]byte(strings.Replace(string(b), "T12:", "T11:", 1))); err != nil {
		t.Fatal(err)
	}
	next.now = next.now.Add(public.DefaultQuiet)
	next.wantCheck(health.Pass, "") // it could not come while nobody was there
	next.now = next.now.Add(1)
	next.wantCheck(health.Warn, "no monitor comes any more: the last was uptimerobot at 2026-11-20T11:00:00Z")
	next.come("UptimeRobot/2.0", "/health")
	if err := next.Restore(b); err != nil || !next.Last()["uptimerobot"].Equal(next.now) {
		t.Errorf("%v, the last visit is forgotten: %v", err, next.Last())
	}
	for _, bad := range []string{"", "{}", `{"version":2,"last":{}}`, `[]`, string(b[:len(b)-1])} {
		if err := next.Restore([]byte(bad)); !errors.Is(err, public.ErrState) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	fresh := visit(t, public.AudienceOptions{})
	if err := fresh.Restore([]byte(`{"version":1,"last":{"pingdom":"2026-11-20T12:00:01Z","nobody":"2026-11-20T11:00:00Z"}}`)); err != nil || len(fresh.Last()) != 0 {
		t.Errorf("%v %v", err, fresh.Last())
	}
}

func TestAudienceMetrics(t *testing.T) {
	v := visit(t, public.AudienceOptions{})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(v.Collector())
	v.come("UptimeRobot/2.0", "/health")
	v.come("UptimeRobot/2.0", "/health.txt")
	v.come("curl", "/health/x")
	v.now = v.now.Add(time.Minute)
	v.come("UptimeRobot/2.0", "/health/app")
	v.ask("POST", "/health")
	want := `# HELP healthd_public_probe_last_seconds Unix time of the last request of health that was answered.
# TYPE healthd_public_probe_last_seconds gauge
healthd_public_probe_last_seconds{monitor="uptimerobot"} 1.79517606e+09
# HELP healthd_public_requests_total Requests of health on the public listener.
# TYPE healthd_public_requests_total counter
healthd_public_requests_total{code="200",monitor="uptimerobot"} 2
healthd_public_requests_total{code="404",monitor="other"} 1
healthd_public_requests_total{code="405",monitor="other"} 1
healthd_public_requests_total{code="503",monitor="uptimerobot"} 1
`
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := w.Body.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func FuzzAudience(f *testing.F) {
	f.Add("UptimeRobot/2.0", []byte(`{"version":1,"last":{"pingdom":"2026-11-20T11:00:00Z","other":"1960-11-20T11:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, agent string, saved []byte) {
		v := visit(t, public.AudienceOptions{})
		restored := v.Restore(saved)
		before := len(v.Last())
		if restored != nil && before > 0 {
			t.Error("a part of what was refused is restored")
		}
		v.come(agent, "/health")
		if after := len(v.Last()); after != before && after != before+1 {
			t.Errorf("%d monitors have come, %d before", after, before)
		}
		for name, at := range v.Last() {
			if at.After(v.now) || name == "" {
				t.Errorf("%s at %v", name, at)
			}
		}
		b, err := v.Save()
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Restore(b); err != nil {
			t.Fatal(err)
		}
	})
}
