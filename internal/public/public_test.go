package public_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/health"
	"sidecar/internal/public"
)

func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// site is a Handler with a tree and a clock.
type site struct {
	testing.TB
	*public.Handler
	tree *health.Tree
	now  time.Time
}

func open(t testing.TB, o public.Options, nodes ...health.Node) *site {
	t.Helper()
	s := &site{TB: t, now: noon()}
	tree, err := health.New(s.now, nodes)
	if err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return s.now }
	s.Handler, s.tree = public.New(o), tree
	return s
}

func leaf(id, name string) health.Node {
	return health.Node{ID: id, Public: name, Every: 10 * time.Second, Grace: time.Minute}
}

func (s *site) set(id string, state health.State) {
	s.tree.Observe(id, s.now, health.Result{State: state, Text: "SECRET at 10.1.2.3:8080"})
}

func (s *site) publish() { s.Publish(s.tree.Snapshot(s.now)) }

// ask returns the answer to a request without a network.
func (s *site) ask(method, path string) *http.Response {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *site) want(path string, code int, want string) {
	s.Helper()
	r := s.ask("GET", path)
	if got := body(s, r); r.StatusCode != code || got != want {
		s.Errorf("GET %s: %d %q, want %d %q", path, r.StatusCode, got, code, want)
	}
}

const xmlFormat = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<pingdom_http_custom_check><status>%s</status><response_time>1.000</response_time></pingdom_http_custom_check>` + "\n"

// TestEveryState has every answer to the letter.
func TestEveryState(t *testing.T) {
	for _, tt := range []struct {
		name                      string
		bring                     func(s *site)
		code                      int
		status, summary, up, part string
	}{
		{"pass", func(s *site) { s.set("n", health.Pass) }, 200, "pass", "ALL-OK", "true", "up"},
		{"warn", func(s *site) { s.set("n", health.Warn) }, 200, "warn", "DEGRADED", "true", "degraded"},
		{"fail", func(s *site) { s.now = s.now.Add(time.Minute); s.set("n", health.Fail) }, 503, "fail", "DOWN", "false", "down"},
		{"unknown", func(s *site) { s.now = s.now.Add(time.Minute); s.set("n", health.Unknown) }, 503, "fail", "UNKNOWN", "false", "unknown"},
		{"stale", func(s *site) { s.set("n", health.Pass); s.now = s.now.Add(31 * time.Second) }, 503, "fail", "UNKNOWN", "false", "unknown"},
		{"starting", func(*site) {}, 503, "fail", "STARTING", "false", "starting"},
		{"restarted", func(s *site) { s.set("n", health.Pass); s.tree.Restarted("n", s.now) }, 200, "warn", "STARTING", "true", "starting"},
		{"maintenance", func(s *site) {
			if err := s.tree.SetMaintenance("n", s.now.Add(time.Hour)); err != nil {
				s.Fatal(err)
			}
		}, 200, "warn", "MAINTENANCE", "true", "maintenance"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, public.Options{}, leaf("n", "Payments API"))
			tt.bring(s)
			s.publish()
			whole := fmt.Sprintf(`{"status":%q,"summary":%q,"up":%s,"parts":[{"n":"Payments API","s":%q}]}`+"\n", tt.status, tt.summary, tt.up, tt.part)
			one := fmt.Sprintf(`{"status":%q,"summary":%q,"up":%s,"name":"Payments API"}`+"\n", tt.status, tt.summary, tt.up)
			text := fmt.Sprintf("%s status=%s up=%s\n", tt.summary, tt.status, tt.up)
			pingdom := fmt.Sprintf(xmlFormat, tt.summary)
			if tt.code == 200 {
				pingdom = fmt.Sprintf(xmlFormat, "OK")
			}
			for _, end := range []string{"", "/", ".json", "?x=1"} {
				s.want("/health"+end, tt.code, whole)
				s.want("/health/payments-api"+end, tt.code, one)
				s.want("/health/Payments%20API"+end, tt.code, one)
			}
			for _, base := range []string{"/health", "/health/payments-api"} {
				s.want(base+".txt", tt.code, text)
				s.want(base+".xml", tt.code, pingdom)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	s := open(t, public.Options{}, leaf("n", "App"))
	for _, state := range []health.State{health.Pass, health.Fail} {
		s.now = s.now.Add(time.Minute)
		s.set("n", state)
		s.publish()
		for path, contentType := range map[string]string{
			"/health": "application/health+json", "/health/": "application/health+json", "/health/app.json": "application/health+json",
			"/health.txt": "text/plain; charset=utf-8", "/health.xml": "text/xml; charset=utf-8",
			"/health/app.txt": "text/plain; charset=utf-8", "/health/nobody": "text/plain; charset=utf-8",
		} {
			get, head := s.ask("GET", path), s.ask("HEAD", path)
			b := body(t, get)
			if rest := body(t, head); rest != "" {
				t.Errorf("HEAD %s has a body: %q", path, rest)
			}
			if head.StatusCode != get.StatusCode || fmt.Sprint(head.Header) != fmt.Sprint(get.Header) {
				t.Errorf("%s: HEAD %d %v, GET %d %v", path, head.StatusCode, head.Header, get.StatusCode, get.Header)
			}
			want := fmt.Sprintf("map[Cache-Control:[no-store] Content-Length:[%d] Content-Type:[%s]]", len(b), contentType)
			if fmt.Sprint(get.Header) != want {
				t.Errorf("%s: %v, want %s", path, get.Header, want)
			}
		}
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	s := open(t, public.Options{}, leaf("secret-unit", "App"), leaf("other", ""))
	s.set("secret-unit", health.Pass)
	s.set("other", health.Pass)
	s.publish()
	for _, path := range []string{"/", "/metrics", "/healthz", "/health/secret-unit", "/health/other", "/health/x/y", "/health//", "//health", "/health/app/x", "/Health", "/health/APP", "/health/.txt", "/health.", "/status"} {
		s.want(path, 404, "not found\n")
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "get"} {
		r := s.ask(method, "/health")
		if r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" || strings.Contains(body(t, r), "OK") {
			t.Errorf("%s: %d %v", method, r.StatusCode, r.Header)
		}
	}
}

func TestNext(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) })
	s := open(t, public.Options{Next: next}, leaf("n", "App"))
	s.set("n", health.Pass)
	s.publish()
	for _, path := range []string{"/", "/status", "/healthy", "//health"} {
		s.want(path, 200, "page "+path)
	}
	for _, path := range []string{"/health/nobody", "/health.svg"} {
		s.want(path, 404, "not found\n")
	}
}

// TestSnapshotsStop: a scheduler that is stuck is 503, in every format and for every
// name; and so is a start.
func TestSnapshotsStop(t *testing.T) {
	s := open(t, public.Options{}, leaf("n", "App"))
	const down = `{"status":"fail","summary":"UNKNOWN","up":false}` + "\n"
	s.want("/health", 503, down)
	s.want("/health/app", 503, down)
	s.want("/health/whoever", 503, down)
	s.want("/metrics", 404, "not found\n")
	if _, ok := s.Age(); ok {
		t.Error("there is a snapshot")
	}
	s.set("n", health.Pass)
	s.publish()
	s.now = s.now.Add(public.DefaultMaxAge)
	if age, ok := s.Age(); !ok || age != public.DefaultMaxAge {
		t.Error(age, ok)
	}
	if r := s.ask("GET", "/health"); r.StatusCode != 200 {
		t.Error("too early")
	}
	for range 2 {
		s.now = s.now.Add(1)
		s.want("/health", 503, `{"status":"fail","summary":"UNKNOWN","up":false,"parts":[{"n":"App","s":"unknown"}]}`+"\n")
		s.want("/health/app", 503, `{"status":"fail","summary":"UNKNOWN","up":false,"name":"App"}`+"\n")
		s.want("/health.txt", 503, "UNKNOWN status=fail up=false\n")
		s.want("/health/app.xml", 503, fmt.Sprintf(xmlFormat, "UNKNOWN"))
		s.want("/health/whoever", 404, "not found\n")
		s.now = noon().Add(-public.DefaultMaxAge - 10) // the clock is set back
	}
	s.now = noon().Add(20 * time.Second)
	s.publish()
	if r := s.ask("GET", "/health"); r.StatusCode != 200 {
		t.Error("does not come back")
	}
}

// TestPublishAgain: whatever changes in a snapshot changes the answer.
func TestPublishAgain(t *testing.T) {
	s := open(t, public.Options{}, leaf("n", "App"))
	step := func(want string) {
		t.Helper()
		s.publish()
		if got := body(t, s.ask("GET", "/health/app")) + body(t, s.ask("GET", "/health")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	both := func(head, part string) string {
		return head + `,"name":"App"}` + "\n" + head + `,"parts":[{"n":"App","s":"` + part + `"}]}` + "\n"
	}
	step(both(`{"status":"fail","summary":"STARTING","up":false`, "starting"))
	s.set("n", health.Pass)
	s.tree.Restarted("n", s.now)
	step(both(`{"status":"warn","summary":"STARTING","up":true`, "starting"))
	s.set("n", health.Pass)
	step(both(`{"status":"pass","summary":"ALL-OK","up":true`, "up"))
	s.set("n", health.Warn)
	step(both(`{"status":"warn","summary":"DEGRADED","up":true`, "degraded"))
	s.set("n", health.Pass)
	inner, around := leaf("n", "App"), health.Node{ID: "g", Public: "Group"}
	apart := []health.Node{around, inner, {ID: "h", Parent: "g", Every: time.Second, Weight: health.Info}}
	if err := s.tree.Replace(s.now, apart); err != nil {
		t.Fatal(err)
	}
	s.publish()
	before := body(t, s.ask("GET", "/health/group"))
	apart[1].Parent = "g"
	if err := s.tree.Replace(s.now, apart); err != nil {
		t.Fatal(err)
	}
	s.publish()
	if after := body(t, s.ask("GET", "/health/group")); before == after || !strings.Contains(after, `"parts":[{"n":"App","s":"up"}]`) {
		t.Errorf("before %q, after %q", before, after)
	}
}

func TestPartsOfGroups(t *testing.T) {
	payments := health.Node{ID: "payments", Public: "Payments"}
	inner := health.Node{ID: "payments/inner", Parent: "payments"}
	one := leaf("payments/inner/1", "Payments one")
	one.Parent = "payments/inner"
	s := open(t, public.Options{}, payments, inner, one, leaf("web", "A web"))
	s.set("payments/inner/1", health.Warn)
	s.set("web", health.Pass)
	s.publish()
	s.want("/health", 200, `{"status":"warn","summary":"DEGRADED","up":true,"parts":[{"n":"A web","s":"up"},{"n":"Payments","s":"degraded"},{"n":"Payments one","s":"degraded"}]}`+"\n")
	s.want("/health/payments", 200, `{"status":"warn","summary":"DEGRADED","up":true,"name":"Payments","parts":[{"n":"Payments one","s":"degraded"}]}`+"\n")
	s.want("/health/a-web", 200, `{"status":"pass","summary":"ALL-OK","up":true,"name":"A web"}`+"\n")
}

func TestManyNames(t *testing.T) {
	var nodes []health.Node
	for i := range 100 {
		nodes = append(nodes, leaf(fmt.Sprintf("n%02d", i), fmt.Sprintf("Name of %02d", i)))
	}
	s := open(t, public.Options{}, nodes...)
	for _, n := range nodes {
		s.set(n.ID, health.Pass)
	}
	s.set("n98", health.Warn)
	s.set("n77", health.Warn)
	s.publish()
	b := body(t, s.ask("GET", "/health"))
	if len(b) > 1023 || !strings.HasPrefix(b, `{"status":"warn","summary":"DEGRADED","up":true,"parts":[{"n":"Name of 77","s":"degraded"},{"n":"Name of 98","s":"degraded"},{"n":"Name of 00","s":"up"},`) {
		t.Errorf("%d bytes: %s", len(b), b)
	}
	var parsed struct {
		Parts []struct{ N, S string }
		More  int
	}
	if err := json.Unmarshal([]byte(b), &parsed); err != nil || parsed.More != 100-len(parsed.Parts) || len(b) < 960 {
		t.Errorf("%v: %d parts, %d more in %d bytes", err, len(parsed.Parts), parsed.More, len(b))
	}
	if r := s.ask("GET", "/health/name-of-99"); r.StatusCode != 200 {
		t.Error("a name that is left out of the list is not answered")
	}
	// Half of them down: nothing but these has room.
	s.now = s.now.Add(time.Minute)
	for i, n := range nodes {
		s.set(n.ID, []health.State{health.Fail, health.Pass}[i%2])
	}
	s.publish()
	b = body(t, s.ask("GET", "/health"))
	if len(b) > 1023 || !strings.HasPrefix(b, `{"status":"fail","summary":"DOWN","up":false,"parts":[{"n":"Name of 00","s":"down"},{"n":"Name of 02","s":"down"},`) || strings.Contains(b, `"up"}`) {
		t.Errorf("%d bytes: %s", len(b), b)
	}
}

// TestAnswersHoldTheContract looks at what is answered about random machines.
func TestAnswersHoldTheContract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-zäß日][A-Za-z0-9 ._äß日-]{0,20}[a-z0-9]`).Filter(func(s string) bool { return health.CheckPublic(s) == nil }), 0, 40, health.Slug).Draw(t, "names")
		nodes := []health.Node{{ID: "SECRET-hidden", Every: time.Second}}
		for i, name := range names {
			nodes = append(nodes, health.Node{ID: fmt.Sprintf("SECRET-%d", i), Public: name, Every: time.Second, Weight: rapid.SampledFrom([]health.Weight{health.Critical, health.Degraded, health.Info}).Draw(t, "weight")})
		}
		tree, err := health.New(noon(), nodes)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			tree.Observe(n.ID, noon(), health.Result{State: rapid.SampledFrom([]health.State{health.Pass, health.Pass, health.Warn, health.Fail, health.Unknown}).Draw(t, "state"), Text: "SECRET"})
		}
		snapshot := tree.Snapshot(noon())
		h := public.New(public.Options{Now: noon})
		h.Publish(snapshot)
		ask := func(path string, state health.State, up bool) {
			for _, end := range []string{"", "/", ".json", ".txt", ".xml"} {
				w := httptest.NewRecorder()
				r := httptest.NewRequest("GET", "/", nil)
				r.URL.Path = path + end
				h.ServeHTTP(w, r)
				checkAnswer(t, w, path+end, state, up)
			}
		}
		ask("/health", snapshot.State, snapshot.Up)
		for i := range snapshot.Nodes {
			if n := snapshot.Nodes[i]; n.Public != "" {
				ask("/health/"+n.Public, n.State, n.Up)
				ask("/health/"+health.Slug(n.Public), n.State, n.Up)
			}
		}
	})
}

func checkAnswer(t *rapid.T, w *httptest.ResponseRecorder, path string, state health.State, up bool) {
	b := w.Body.String()
	code := 503
	if up {
		code = 200
	}
	if w.Code != code || len(b) > 1023 || strings.Contains(b, "SECRET") || strings.Contains(b, "2026") && !strings.Contains(path, "2026") {
		t.Fatalf("%s: %d %s", path, w.Code, b)
	}
	if w.Header().Get("Content-Length") != fmt.Sprint(len(b)) || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %v", path, w.Header())
	}
	passes := state == health.Pass
	if strings.HasSuffix(path, ".xml") {
		var parsed struct {
			XMLName      xml.Name `xml:"pingdom_http_custom_check"`
			Status       string   `xml:"status"`
			ResponseTime float64  `xml:"response_time"`
		}
		if err := xml.Unmarshal([]byte(b), &parsed); err != nil || (parsed.Status == "OK") != up || parsed.ResponseTime <= 0 {
			t.Fatalf("%s: %v %s", path, err, b)
		}
		return
	}
	if strings.Count(b, "\n") != 1 || !strings.HasSuffix(b, "\n") || strings.Contains(strings.ToUpper(b), "ALL-OK") != passes {
		t.Fatalf("%s: %s", path, b)
	}
	if strings.HasSuffix(path, ".txt") {
		if strings.Contains(b, "status=pass") != passes || strings.Contains(b, "up=true") != up {
			t.Fatalf("%s: %s", path, b)
		}
		return
	}
	if strings.Contains(b, `"status":"pass"`) != passes || strings.Contains(b, `"up":true`) != up || !json.Valid([]byte(b)) {
		t.Fatalf("%s: %s", path, b)
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	code   int
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(c int)   { d.code = c }
func (d *discard) Write(b []byte) (int, error) {
	d.bytes += len(b)
	return len(b), nil
}

func TestAnswersAllocateNothing(t *testing.T) {
	s := open(t, public.Options{}, leaf("n", "Payments API"))
	s.set("n", health.Pass)
	s.publish()
	for _, path := range []string{"/health", "/health/", "/health/payments-api.txt", "/health/nobody"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			w := &discard{header: http.Header{}}
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("User-Agent", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)")
			if n := testing.AllocsPerRun(100, func() { s.ServeHTTP(w, r) }); n != 0 {
				t.Errorf("%s %s: %v allocations", method, path, n)
			}
		}
	}
}

func FuzzPaths(f *testing.F) {
	f.Add("GET", "/health/payments-api")
	f.Add("HEAD", "/health/../metrics")
	f.Add("POST", "//health")
	f.Fuzz(func(t *testing.T, method, path string) {
		s := open(t, public.Options{}, leaf("n", "Payments API"))
		s.set("n", health.Pass)
		s.publish()
		w := &discard{header: http.Header{}}
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path = method, path
		s.ServeHTTP(w, r)
		known := strings.HasPrefix(path, "/health")
		switch {
		case w.code == 200 && known && (method == "GET" || method == "HEAD"):
		case w.code == 404 && (method == "GET" || method == "HEAD"):
		case w.code == 405 && method != "GET" && method != "HEAD":
		default:
			t.Errorf("%q %q: %d", method, path, w.code)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	s := open(b, public.Options{}, leaf("n", "Payments API"))
	s.set("n", health.Pass)
	s.publish()
	w := &discard{header: http.Header{}}
	r := httptest.NewRequest("GET", "/health", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)")
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(w, r)
	}
}

func BenchmarkPublish(b *testing.B) {
	var nodes []health.Node
	for i := range 500 {
		n := leaf(fmt.Sprintf("n%03d", i), "")
		if i < 60 {
			n.Public = fmt.Sprintf("Name %d", i)
		}
		nodes = append(nodes, n)
	}
	s := open(b, public.Options{}, nodes...)
	for _, n := range nodes {
		s.set(n.ID, health.Pass)
	}
	for _, same := range []bool{true, false} {
		b.Run(map[bool]string{true: "same", false: "changed"}[same], func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !same {
					s.set("n000", []health.State{health.Pass, health.Warn}[i%2])
				}
				s.publish()
			}
		})
	}
}
