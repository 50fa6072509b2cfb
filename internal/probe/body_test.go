package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"sidecar/internal/health"
)

func TestBodies(t *testing.T) {
	ok := func(format, contentType, body string, state health.State, words ...string) {
		t.Helper()
		s, err := formats()[format].read(contentType, []byte(body), health.Fail)
		if err != nil {
			t.Errorf("%s %s: %v", format, body, err)
			return
		}
		want(t, result(s.state, "%s", s.text), state, words...)
	}
	bad := func(format, contentType, body, reason string) {
		t.Helper()
		if s, err := formats()[format].read(contentType, []byte(body), health.Fail); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s %s: %v, %v; want %q", format, body, s, err, reason)
		}
	}
	const js = "application/json"
	// @nestjs/terminus
	ok("terminus", js, `{"status":"ok","info":{"db":{"status":"up"}},"error":{},"details":{"db":{"status":"up"}}}`, health.Pass)
	ok("terminus", js, `{"status":"error","info":{},"error":{"db":{"status":"down","message":"x"}},"details":{"db":{"status":"down"}}}`, health.Fail, `says status "error"; fail: db`)
	ok("terminus", js, `{"status":"error","error":{"a":{"status":"down"},"b":{"status":"down"}},"details":{"a":{"status":"down"},"b":{"status":"down"}}}`, health.Fail, "fail: a, b")
	ok("terminus", js, `{"status":"shutting_down","info":{},"error":{},"details":{}}`, health.Warn)
	ok("terminus", js, `{"status":"ok","info":{"worker":{"status":"down"}}}`, health.Fail, "worker")
	bad("terminus", js, `{"status":"pass"}`, "nothing about health")
	bad("terminus", js, `{"statusCode":404,"message":"Cannot GET /health","error":"Not Found"}`, "nothing about health")
	// @godaddy/terminus
	ok("terminus", js, `{"status":"shutting down"}`, health.Warn)
	ok("auto", js, `{"status":"ok","info":{"up":true},"details":{"up":true}}`, health.Pass)
	// Spring Boot Actuator
	ok("spring", "application/vnd.spring-boot.actuator.v3+json", `{"status":"UP","components":{"db":{"status":"UP","details":{"database":"PostgreSQL","validationQuery":"isValid()"}},"ping":{"status":"UP"}}}`, health.Pass)
	ok("spring", js, `{"status":"OUT_OF_SERVICE"}`, health.Fail)
	ok("spring", js, `{"status":"UNKNOWN"}`, health.Unknown)
	ok("spring", js, `{"status":"UP","components":{"a":{"status":"UNKNOWN"}}}`, health.Pass)
	ok("spring", js, `{"status":"DOWN","components":{"broker":{"status":"DOWN","components":{"us1":{"status":"DOWN"},"us2":{"status":"UP"}}}}}`, health.Fail, "broker/us1")
	ok("spring", js, `{"status":"DOWN","details":{"diskSpace":{"status":"DOWN","details":{"free":1}}}}`, health.Fail, "diskSpace")
	// draft-inadarei-api-health-check-06
	ok("ietf", "application/health+json", `{"status":"pass","checks":{"db:time":[{"componentId":"a","status":"pass"},{"status":"pass"}]}}`, health.Pass)
	ok("ietf", "application/health+json", `{"status":"warn","output":"slow","checks":{"db:time":[{"status":"fail"}]}}`, health.Warn, "slow", "fail: db:time")
	ok("ietf", "application/health+json", `{"status":"pass","checks":{"db:time":[{"status":"warn"}]}}`, health.Warn, "db:time")
	ok("ietf", js, `{"status":"DOWN"}`, health.Fail)
	bad("ietf", js, `Healthy`, "broken JSON")
	// ASP.NET Core
	ok("aspnet", "text/plain", "Healthy", health.Pass)
	ok("aspnet", "text/plain", "Degraded", health.Warn)
	ok("aspnet", js, `{"status":"Unhealthy","totalDuration":"00:00:01","entries":{"sql":{"status":"Unhealthy","description":"gone"},"q":{"status":"Healthy"}}}`, health.Fail, "fail: sql")
	ok("aspnet", js, `{"status":"Degraded","results":{"sql":{"status":"Degraded"}}}`, health.Warn, "sql")
	bad("aspnet", "text/plain", "ok", "nothing about health")
	// MicroProfile Health
	ok("auto", js, `{"status":"DOWN","checks":[{"name":"disk","status":"DOWN","data":{"free":"1"}},{"name":"mem","status":"UP"}]}`, health.Fail, "fail: disk")
	// What people write themselves
	ok("auto", "text/plain", "OK", health.Pass)
	ok("auto", "text/plain", "\xef\xbb\xbf ok\r\n", health.Pass)
	ok("auto", "text/html", "not ready", health.Fail)
	ok("auto", "", "ERROR: no database\n", health.Fail, "no database")
	ok("auto", js, `"ok"`, health.Pass)
	ok("auto", js, `{"ok":false,"message":"no disk"}`, health.Fail, "no disk")
	ok("auto", js, `{"healthy":true,"checks":{"db":"ok","cache":"down"}}`, health.Fail, "cache")
	ok("auto", js, `{"status":"ok","details":{"lastResult":"error"}}`, health.Pass) // a word in a detail is no part
	ok("auto", js, `{"status":503,"error":"Service Unavailable"}`, health.Fail)
	ok("auto", js, `{"status":"starting"}`, health.Starting)
	ok("auto", js, `{"status":{"code":"DOWN"}}`, health.Fail)
	ok("plain", "text/plain", "pong", health.Pass)
	// Nothing, or not what it says it is
	bad("auto", "text/html", "<html><body>down</body></html>", "nothing about health")
	bad("auto", "text/plain", strings.Repeat("ok ", 100), "nothing about health")
	bad("auto", js, ``, "nothing about health")
	bad("auto", js, `[]`, "nothing about health")
	bad("auto", js, `{"status":"active"}`, "nothing about health")
	bad("auto", js, `{"status":"ok"`, "ends too early")
	bad("auto", "text/plain", `{"status":"ok"} trailing`, "more follows")
	bad("auto", js, `{"status":"ok",}`, "at byte")
	bad("plain", "text/plain", `{"status":"ok"}`, "nothing about health")
}

func TestChildrenOfAWellWhole(t *testing.T) {
	for children, state := range map[health.State]health.State{health.Fail: health.Fail, health.Warn: health.Warn, health.Pass: health.Pass} {
		s, err := formats()["auto"].read("", []byte(`{"status":"ok","details":{"a":{"status":"down"},"b":{"status":"degraded"}}}`), children)
		if err != nil || s.state != state || !strings.Contains(s.text, "fail: a") {
			t.Errorf("children %s: %v %v, want %s", children, s, err, state)
		}
	}
	s, _ := formats()["auto"].read("", []byte(`{"status":"ok","details":{"b":{"status":"degraded"}}}`), health.Pass)
	if s.state != health.Pass {
		t.Errorf("ignored children count: %v", s)
	}
}

// A tree that never ends, and one with very many parts, cost little and stay short.
func TestManyParts(t *testing.T) {
	deep := func(levels int) string {
		return strings.Repeat(`{"status":"ok","details":{"a":`, levels) + `{"status":"down"}` + strings.Repeat(`}}`, levels)
	}
	for levels, state := range map[int]health.State{1: health.Fail, maxDepth: health.Fail, maxDepth + 1: health.Pass, 4000: health.Pass} {
		s, err := formats()["auto"].read("", []byte(deep(levels)), health.Fail)
		if err != nil || s.state != state || len(s.text) > 200 {
			t.Errorf("%d levels: %v %v, want %s", levels, s, err, state)
		}
	}
	wide := `{"status":"error","details":{` + strings.Repeat(`"x":{"status":"down"},`, 10)
	for i := range 100 {
		wide += fmt.Sprintf(`"part%d":{"status":"down"},`, i)
	}
	s, err := formats()["auto"].read("", []byte(wide+`"z":{"status":"down"}}}`), health.Fail)
	if err != nil || !strings.Contains(s.text, "and 98 more") || len(s.text) > 300 {
		t.Errorf("wide: %q %v", s.text, err)
	}
}

func TestJSONPath(t *testing.T) {
	doc := `{"data":{"nodes":[{"state":"green"},{"state":"yellow"}],"n":3,"ok":true,"no":null,"a.b":"up"}}`
	ok := func(path, passes, warns string, state health.State) {
		t.Helper()
		r := probeBody(t, path, passes, warns, doc)
		want(t, r, state)
	}
	ok("$.data.nodes[0].state", "green", "", health.Pass)
	ok("data.nodes.1.state", "green", "yellow", health.Warn)
	ok("data.nodes.1.state", "green", "", health.Fail)
	ok("data.n", "3", "", health.Pass)
	ok("data.ok", "", "", health.Pass)
	ok("data.no", "null", "", health.Pass)
	ok("$['data']['a.b']", "", "", health.Pass)
	ok("data.none", "", "", health.Fail)
	ok("data.nodes[2].state", "", "", health.Fail)
	ok("data.nodes[-1]", "", "", health.Fail)
	ok("data.nodes", "", "", health.Fail)
	ok("data.n.deeper", "", "", health.Fail)
	for _, path := range []string{"$", "$..a", "a[", "a[x]", "['a", "a..b", "a."} {
		if steps, err := parsePath(path); err == nil {
			t.Errorf("%q is read as %q", path, steps)
		}
	}
}

// probeBody judges an answer 200 with that body.
func probeBody(t *testing.T, path, passes, warns, body string) health.Result {
	t.Helper()
	options := map[string]string{"json": path}
	if passes != "" {
		options["pass"] = passes
	}
	if warns != "" {
		options["warn"] = warns
	}
	steps, err := parsePath(path)
	if err != nil && strings.Contains(path, "-1") {
		return fail("%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o, _ := parseOptions("", options)
	j := jsonPath{steps, o.list("pass", ""), o.list("warn", "")}
	s, err := j.read([]byte(body))
	if err != nil {
		return fail("%v", err)
	}
	return result(s.state, "%s", s.text)
}

// FuzzBody: whatever a body holds, reading it ends, its text is short and clean, and
// errNoWord and a state exclude each other.
func FuzzBody(f *testing.F) {
	for _, body := range []string{`{"status":"ok","info":{"a":{"status":"down"}}}`, `{"status":"warn","checks":{"a:b":[{"status":"fail"}]}}`,
		`{"status":"UP","components":{"a":{"components":{"b":{"status":"DOWN"}}}}}`, `{"checks":[[["down"]]],"ok":true}`, "Healthy", "not ok", `{"status":`, "[]", "\xff{"} {
		f.Add("application/json", body)
		f.Add("", body)
	}
	f.Fuzz(func(t *testing.T, contentType, body string) {
		for name, format := range formats() {
			s, err := format.read(contentType, []byte(body), health.Fail)
			if err != nil {
				if s != (said{}) {
					t.Errorf("%s: %v beside %v", name, s, err)
				}
				continue
			}
			if s.text == "" || !utf8.ValidString(cutText(s.text, maxTextBytes)) || strings.ContainsAny(s.text, "\n\r\x00") || len(s.text) > 2000 {
				t.Errorf("%s: text %q", name, s.text)
			}
			if again, _ := format.read(contentType, []byte(body), health.Fail); again != s {
				t.Errorf("%s: %v, then %v", name, s, again)
			}
		}
		j := jsonPath{steps: []string{"a", "0"}}
		if s, err := j.read([]byte(body)); err != nil && s != (said{}) || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v beside %v", s, err)
		}
	})
}
