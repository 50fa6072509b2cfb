package health

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sidecar/internal/health"
	"sidecar/internal/scrape"
)

// TestMemoryOfScrapes: as much as metrics.max_total allows, and targets that try to get
// more, fit into the memory that the unit of healthd may have.
func TestMemoryOfScrapes(t *testing.T) {
	limit := regexp.MustCompile(`(?m)^MemoryMax=(\d+)M$`).FindSubmatch(readFile(t, "../../deploy/systemd/healthd.service"))
	if limit == nil {
		t.Fatal("healthd.service has no MemoryMax=")
	}
	most, err := strconv.Atoi(string(limit[1]))
	must(t, err)
	const whole, hostile = 6, 40
	var page strings.Builder
	for i := 0; page.Len() < scrape.DefaultTotalBytes/whole-(1<<20); i++ {
		fmt.Fprintf(&page, "http_requests_total{method=\"GET\",route=\"/api/v1/resource/%d\",status_code=\"200\"} %d\n", i, i)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, err := io.WriteString(w, page.String())
		for i := 0; err == nil && strings.HasPrefix(r.URL.Path, "/hostile"); i++ {
			_, err = fmt.Fprintf(w, "hostile_total{id=\"%d\"} 1\n", i)
		}
	}))
	defer web.Close()
	h := newKilled(t, "")
	targets := func(app string, n int) string {
		return fmt.Sprintf("[target.%[1]s]\nchecks = ['unix:///%%i#every=1h']\nmetrics = '%[2]s/%[1]s/%%i'\nworkers = '1..%[3]d'\n", app, web.URL, n)
	}
	config := string(readFile(t, filepath.Join(h.dir, "healthd.toml")))
	for _, c := range []struct {
		targets string
		up      int
	}{
		{targets("whole", whole), whole},
		{targets("hostile", hostile), 0},
	} {
		must(t, os.WriteFile(filepath.Join(h.dir, "healthd.toml"), []byte(config+c.targets), 0o600))
		h.start()
		h.nodes(func(n map[string]health.NodeState) bool { return len(n) > 0 })
		for range 3 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://healthd/metrics", nil)
			must(t, err)
			r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "60")
			r.Header.Set("Accept-Encoding", "gzip")
			answer, err := h.client.Do(r)
			must(t, err)
			z, err := gzip.NewReader(answer.Body)
			must(t, err)
			b, err := io.ReadAll(z)
			must(t, err)
			must(t, answer.Body.Close())
			if up := len(regexp.MustCompile(`(?m)^healthd_target_up\{.*\} 1$`).FindAll(b, -1)); up != c.up {
				t.Fatalf("%d targets are up, want %d", up, c.up)
			}
		}
		status := string(readFile(t, fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid)))
		_, text, _ := strings.Cut(status, "VmHWM:")
		peak := 0
		_, err := fmt.Sscan(text, &peak)
		must(t, err)
		t.Logf("peak %d MiB of %d", peak>>10, most)
		if peak>>10 > most {
			t.Errorf("a peak of %d MiB, and MemoryMax= is %d", peak>>10, most)
		}
		h.kill()
	}
}
