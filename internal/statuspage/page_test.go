package statuspage

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// everything returns what is under each path, with the HTML of /status as "".
func (f *fixture) everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"": f.get("/status").Body.String()}
	f.page.mu.Lock()
	names := paths(f.page.current(now()).view)
	f.page.mu.Unlock()
	for _, name := range names {
		w := f.get("/" + strings.ReplaceAll(name, " ", "%20"))
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", name, w.Code)
		}
		all[name] = w.Body.String()
	}
	return all
}

// TestNothingInternalIsShown looks for every ID, text and address in every answer, while
// everything is wrong.
func TestNothingInternalIsShown(t *testing.T) {
	f := newFixture(t, nil)
	results := map[string]health.State{}
	for _, n := range nodes() {
		results[n.ID] = health.Fail
	}
	f.show(judged(t, now(), results))
	all := f.everything(t)
	if len(all) < 15 {
		t.Fatalf("%d answers: %v", len(all), slices.Sorted(maps.Keys(all)))
	}
	for name, text := range all {
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(text), secret) {
				t.Errorf("%s: %s is shown", name, secret)
			}
		}
	}
	for _, n := range nodes() {
		if n.Public != "" && !strings.Contains(all[""], "<h3>"+n.Public+"</h3>") {
			t.Errorf("%s is not shown", n.Public)
		}
	}
	if hidden := f.get("/status/db-primary.svg"); hidden.Code != http.StatusNotFound {
		t.Errorf("a badge of what is not public: %d", hidden.Code)
	}
}

// TestStates goes through all states of the machine.
func TestStates(t *testing.T) {
	for _, c := range []struct {
		results              map[string]health.State
		headline, class      string
		payments, badgeState string
	}{
		{nil, "All systems are operational", "pass", "Operational", "operational"},
		{map[string]health.State{"payments/3": health.Warn}, "Some systems are not fully operational", "warn", "Degraded", "degraded"},
		{map[string]health.State{"payments/3": health.Fail}, "There is an outage", "fail", "Outage", "outage"},
		{map[string]health.State{"payments/3": health.Unknown}, "The current state is not known", "unknown", "Unknown", "unknown"},
		{map[string]health.State{"reports": health.Fail}, "Some systems are not fully operational", "warn", "Operational", "degraded"},
		{map[string]health.State{"payments/3": health.Maintenance}, "Some systems are not fully operational", "warn", "Maintenance", "degraded"},
	} {
		f := newFixture(t, nil)
		f.show(judged(t, now(), c.results))
		page := f.get("/status").Body.String()
		if !strings.Contains(page, "<h1>"+c.headline+"</h1>") || !strings.Contains(page, `<div class="banner `+c.class+`">`) {
			t.Errorf("%v: want %s", c.results, c.headline)
		}
		if c.headline != "All systems are operational" && strings.Contains(page, "All systems") {
			t.Errorf("%v: it says that all is well", c.results)
		}
		i := strings.Index(page, "<h3>Payments</h3>")
		if i < 0 || !strings.Contains(page[i:i+400], "</svg>"+c.payments+"</span>") {
			t.Errorf("%v: want %s of Payments: %s", c.results, c.payments, page[max(i, 0):][:400])
		}
		if b := f.get("/status.svg").Body.String(); !strings.Contains(b, `aria-label="status: `+c.badgeState+`"`) {
			t.Errorf("%v: badge %s", c.results, b)
		}
	}
}

// TestStaleIsNeverWell: a page whose snapshots stop coming says so.
func TestStaleIsNeverWell(t *testing.T) {
	at := now()
	f := newFixture(t, func(o *Options) { o.Now = func() time.Time { return at } })
	for _, c := range []struct {
		after time.Duration
		show  bool
		want  string
	}{
		{0, false, "not known"}, {0, true, "All systems are operational"}, {DefaultMaxAge, false, "All systems are operational"},
		{DefaultMaxAge + 1, false, "not known"}, {-DefaultMaxAge - 1, false, "not known"}, {0, true, "All systems are operational"},
	} {
		if c.show {
			f.show(judged(t, now(), nil))
		}
		at = now().Add(c.after)
		if page := f.get("/status").Body.String(); !strings.Contains(page, c.want) {
			t.Errorf("after %v: want %q", c.after, c.want)
		}
		var d document
		if err := json.Unmarshal(f.get("/status.json").Body.Bytes(), &d); err != nil || (d.State == health.Pass) != (c.want != "not known") {
			t.Errorf("after %v: JSON says %v, %v", c.after, d.State, err)
		}
	}
}

func TestRequests(t *testing.T) {
	f := newFixture(t, nil)
	f.show(judged(t, now(), nil))
	page := f.get("/status")
	h := page.Header()
	if page.Code != http.StatusOK || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") || h.Get("Refresh") != "" {
		t.Errorf("%d %v", page.Code, h)
	}
	if again := f.get("/status", "If-None-Match", h.Get("Etag")); again.Code != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.Code)
	}
	if live := f.get("/status?live"); live.Header().Get("Refresh") != "60" {
		t.Errorf("live: %v", live.Header())
	}
	slash := f.get("/status/")
	if slash.Code != http.StatusPermanentRedirect || slash.Header().Get("Location") != "../status" {
		t.Errorf("/status/: %d %v", slash.Code, slash.Header())
	}
	for _, path := range []string{"/", "/status/x", "/status/incidents/x.html", "/status/incidents/", "/statuses", "/status/payments.svg/"} {
		if w := f.get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodOptions: 405} {
		w := httptest.NewRecorder()
		f.page.ServeHTTP(w, httptest.NewRequest(method, "/status", nil))
		if w.Code != want || w.Code == 200 && w.Body.Len() > 0 {
			t.Errorf("%s: %d, %d bytes", method, w.Code, w.Body.Len())
		}
	}
}

// TestHTML reads the pages as a browser does, and compares with what was meant.
func TestHTML(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Title = `<b>"A" & B</b>` })
	f.show(judged(t, now(), nil))
	for name, text := range f.everything(t) {
		if name != "" && !strings.HasSuffix(name, ".html") {
			continue
		}
		checkNesting(t, name, text)
		doc, err := html.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		ids, headings := map[string]bool{}, 0
		for n := range doc.Descendants() {
			if n.Type == html.ElementNode && n.Data == "h1" {
				headings++
			}
			for _, a := range n.Attr {
				switch {
				case a.Key == "id" && ids[a.Val]:
					t.Errorf("%s: id %s is there twice", name, a.Val)
				case a.Key == "id":
					ids[a.Val] = true
				case a.Key == "style" || strings.HasPrefix(a.Key, "on"), n.Data == "script":
					t.Errorf("%s: <%s %s>", name, n.Data, a.Key)
				case (a.Key == "href" || a.Key == "src") && a.Val != "https://example.com/" && !strings.HasPrefix(a.Val, "https://bank.example/"):
					checkLink(t, f, name, a.Val)
				}
			}
		}
		if headings != 1 {
			t.Errorf("%s: %d headings of the first level", name, headings)
		}
	}
}

// checkNesting looks whether all elements are closed in the order in which they were
// opened.
func checkNesting(t *testing.T, name, text string) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(text))
	var open []string
	for {
		kind := z.Next()
		switch token := z.Token(); kind {
		case html.ErrorToken:
			if len(open) > 0 || z.Err() != io.EOF {
				t.Errorf("%s: not closed: %v, %v", name, open, z.Err())
			}
			return
		case html.StartTagToken:
			if !slices.Contains([]string{"meta", "link", "br", "hr"}, token.Data) {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("%s: </%s> after %v", name, token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// checkLink follows a link of a page.
func checkLink(t *testing.T, f *fixture, name, link string) {
	t.Helper()
	if strings.HasPrefix(link, "#") {
		return
	}
	r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
	to, err := r.URL.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	if w := f.get(to.String()); w.Code != http.StatusOK || strings.HasPrefix(link, "/") || to.Host != "" && to.Host != r.URL.Host {
		t.Errorf("%s: link %s: %d", name, link, w.Code)
	}
}

func TestFeeds(t *testing.T) {
	f := newFixture(t, nil)
	f.live(t)
	f.show(judged(t, now(), map[string]health.State{"mail": health.Warn}))
	var d document
	decoder := json.NewDecoder(f.get("/status.json").Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Version != 1 || d.State != health.Warn || len(d.Services) != 5 || len(d.Incidents) != 3 || !d.UpdatedAt.Equal(now().Truncate(time.Second)) {
		t.Errorf("%+v", d)
	}
	shop := d.Services[4]
	if shop.Slug != "web-shop" || len(shop.Parts) != 2 || shop.Parts[0].Name != "Cart" || len(shop.Days) != 90 || shop.Days[89].Date != "2026-11-20" {
		t.Errorf("%+v", shop)
	}
	if d.Uptime.Days7 == nil || *d.Uptime.Days7 != 1 || d.Uptime.Days90 == nil {
		t.Errorf("of everything: %+v", d.Uptime)
	}
	payments := d.Services[1]
	if payments.Days[89-41].Down != 12 || *payments.Uptime.Days30 != 1 || *payments.Uptime.Days90 >= 1 || *d.Services[3].Uptime.Days90 != 1 {
		t.Errorf("%+v", payments)
	}
	var feed struct {
		Channel struct {
			Link string `xml:"link"`
			Item []struct {
				Title string `xml:"title"`
				Link  string `xml:"link"`
				GUID  string `xml:"guid"`
				Date  string `xml:"pubDate"`
			} `xml:"item"`
		} `xml:"channel"`
	}
	if err := xml.Unmarshal(f.get("/status.rss").Body.Bytes(), &feed); err != nil {
		t.Fatal(err)
	}
	var titles, guids []string
	for _, item := range feed.Channel.Item {
		titles, guids = append(titles, item.Title), append(guids, item.GUID)
		if _, err := time.Parse(time.RFC1123Z, item.Date); err != nil || !strings.HasPrefix(item.Link, "https://status.example.com/status/incidents/2026-") {
			t.Errorf("%+v, %v", item, err)
		}
	}
	want := []string{"Degradation: E-mails arrive late", "Maintenance: New storage for the search index", "Resolved: Card payments were delayed", "Degradation: Card payments were delayed"}
	if !slices.Equal(titles, want) || len(slices.Compact(slices.Sorted(slices.Values(guids)))) != len(guids) {
		t.Errorf("%q, %q", titles, guids)
	}
	for name, text := range f.everything(t) {
		if strings.HasSuffix(name, ".svg") {
			if err := xml.Unmarshal([]byte(text), new(any)); err != nil && err != io.EOF {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestDocumented: docs/status.md has every field of the JSON, and its incident can be
// read.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "## JSON\n")
	var fields func(reflect.Type)
	fields = func(of reflect.Type) {
		for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || !strings.Contains(text, "`"+name+"`") {
				t.Errorf("field %s: %q is not documented", f.Name, name)
			}
			if f.Type.PkgPath() == of.PkgPath() && f.Type.Kind() == reflect.Struct || f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && f.Type.Elem() != of {
				fields(f.Type)
			}
		}
	}
	fields(reflect.TypeFor[document]())
	_, incident, _ := strings.Cut(string(b), "<<'END'\n")
	incident, _, _ = strings.Cut(incident, "\nEND\n")
	in, err := parseIncident("2026-11-20-payments", incident)
	if err != nil || in.Kind != Degradation || len(in.Affects) != 2 || in.Ended.IsZero() || !strings.Contains(string(in.Body), "<strong>two minutes</strong>") {
		t.Errorf("the incident is %+v, %v", in, err)
	}
}

func TestUptimeIsRoundedDown(t *testing.T) {
	for _, c := range []struct {
		counts history.Counts
		want   string
	}{
		{history.Counts{}, ""}, {history.Counts{history.Up: 5}, "100%"}, {history.Counts{history.Up: 129599, history.Down: 1}, "99.99%"},
		{history.Counts{history.Up: 1, history.Down: 2}, "33.33%"}, {history.Counts{history.Down: 2}, "0.00%"},
	} {
		if got := uptime(c.counts); got != c.want {
			t.Errorf("%v: %q, want %q", c.counts, got, c.want)
		}
	}
}

func TestDays(t *testing.T) {
	for _, c := range []struct {
		counts       history.Counts
		class, words string
	}{
		{history.Counts{}, "unknown", "no data"},
		{history.Counts{history.Up: 1440}, "pass", "no disruptions"},
		{history.Counts{history.Up: 1380, history.Degraded: 60}, "warn", "1 hour degraded; 100% uptime"},
		{history.Counts{history.Up: 1411, history.Down: 29}, "minor", "29 minutes down; 97.98% uptime"},
		{history.Counts{history.Up: 1379, history.Down: 60, history.Unknown: 1}, "fail", "1 hour down, 1 minute unknown; 95.76% uptime"},
		{history.Counts{history.Maintenance: 125}, "maintenance", "2 hours 5 minutes in maintenance"},
	} {
		if class, height := grade(c.counts); class != c.class || height < 1 || height > barHeight || describeDay(c.counts) != c.words {
			t.Errorf("%v: %s, %d, %q", c.counts, class, height, describeDay(c.counts))
		}
	}
}

// TestRestart: what one process recorded the next one shows, also if it was killed.
func TestRestart(t *testing.T) {
	f := newFixture(t, nil)
	f.show(judged(t, now(), map[string]health.State{"payments/3": health.Fail}))
	next, err := New(f.options) // the first one is not closed
	if err != nil {
		t.Fatal(err)
	}
	f.page = next
	f.show(judged(t, now().Add(time.Minute), nil))
	var d document
	if err := json.Unmarshal(f.get("/status.json").Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if got := d.Services[1].Days; len(got) != 1 || got[0].Down != 1 || got[0].Up != 1 {
		t.Errorf("%+v", got)
	}
	next.close()
}

// TestRun keeps a page for a while: history, incidents, files for another host.
func TestRun(t *testing.T) {
	static := filepath.Join(t.TempDir(), "static")
	defer syscall.Umask(syscall.Umask(0o077)) // as in a unit that keeps its state for itself
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) { o.StaticDir, o.Now = static, time.Now })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.page.Run(ctx) }()
		f.page.Update(judged(t, time.Now(), nil))
		synctest.Wait()
		index := read(t, static, "index.html")
		if !strings.Contains(index, "All systems are operational") || index != read(t, static, "status.html") ||
			!strings.Contains(read(t, static, "status/payments.svg"), "operational") {
			t.Error("the files do not say that all is well")
		}
		f.page.Update(judged(t, time.Now(), map[string]health.State{"payments/3": health.Fail}))
		synctest.Wait()
		if !strings.Contains(read(t, static, "index.html"), "There is an outage") {
			t.Error("an outage is not in the files at once")
		}
		removed := filepath.Join(f.options.IncidentsDir, "2026-11-17-payments.md")
		if err := os.Remove(removed); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(f.options.IncidentsDir, "new.md"), "title: New\nstarted: 2000-01-01 00:00\n---\n")
		write(t, filepath.Join(f.options.IncidentsDir, "bad.md"), "title: New\n")
		write(t, filepath.Join(static, "own.html"), "of the operator")
		f.page.Update(judged(t, time.Now(), nil))
		time.Sleep(3 * readEvery) // nothing comes any more
		synctest.Wait()
		names, err := filepath.Glob(filepath.Join(static, "status", "incidents", "*"))
		if err != nil || len(names) != 3 || filepath.Base(names[2]) != "new.html" {
			t.Errorf("%v, %v", names, err)
		}
		if !strings.Contains(read(t, static, "index.html"), "not known") || read(t, static, "own.html") != "of the operator" {
			t.Error("the files are well when nobody watches")
		}
		if n := strings.Count(f.log.String(), "bad.md"); n != 1 || f.page.Problems() != 1 {
			t.Errorf("the log tells %d times of an incident that cannot be read, %d problems: %s", n, f.page.Problems(), f.log)
		}
		for _, dir := range []string{"", "status", "status/incidents"} {
			if info, err := os.Stat(filepath.Join(static, dir)); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%q: %v, %v: others cannot read it", dir, info.Mode(), err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%s: %v, %v: others cannot read it", name, info.Mode(), err)
	}
	return string(b)
}

// TestStrangeHistory: a file that is no history is kept aside, and told of.
func TestStrangeHistory(t *testing.T) {
	f := newFixture(t, nil)
	path := filepath.Join(f.options.HistoryDir, ringName("payments/3"))
	write(t, path, strings.Repeat("x", history.FileBytes+1))
	f.show(judged(t, now(), nil))
	if _, err := os.Stat(path + ".bad"); err != nil || !strings.Contains(f.log.String(), "kept aside") {
		t.Errorf("%v, %s", err, f.log)
	}
	if got, _ := f.page.ring("payments/3").Counts(history.DayOf(now())); got[history.Up] != 1 {
		t.Errorf("%v", got)
	}
}

// TestOldHistory: of names that are gone it stays for as long as it reaches back, of
// those that are there for ever, whatever the clock said when they were written.
func TestOldHistory(t *testing.T) {
	f := newFixture(t, nil)
	f.show(judged(t, now(), nil))
	dir := f.options.HistoryDir
	reach := history.Days * 24 * time.Hour
	for name, age := range map[string]time.Duration{"payments/3": 2 * reach, "": 2 * reach, "old": reach + time.Hour, "young": reach - time.Hour} {
		path := filepath.Join(dir, ringName(name))
		if _, err := os.Stat(path); err != nil {
			write(t, path, "")
		}
		if err := os.Chtimes(path, now().Add(-age), now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "notes"), "of the operator")
	f.page.forget()
	for name, want := range map[string]bool{ringName("payments/3"): true, ringName(""): true, ringName("old"): false, ringName("young"): true, "notes": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f.page.Problems() != 0 {
		t.Error(f.log)
	}
}

func TestRingNames(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"", "machine", "a/b", "a%2Fb", "..", "a~b", strings.Repeat("/", 256), strings.Repeat("/", 255) + "x", strings.Repeat("a", 201)} {
		name := ringName(id)
		if other, ok := seen[name]; ok || len(name) > 255-len(".bad") || strings.ContainsRune(name, '/') {
			t.Errorf("%q: %q, as %q", id, name, other)
		}
		seen[name] = id
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no history, and no error")
	}
}

// BenchmarkPage is what a visitor costs, and what a change costs.
func BenchmarkPage(b *testing.B) {
	f := newFixture(b, nil)
	f.live(b)
	f.show(judged(b, now(), nil))
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.get("/status")
		}
	})
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.page.version++
			f.get("/status")
		}
	})
	s := judged(b, now(), nil)
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.show(s)
		}
	})
}
