package statuspage

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"sidecar/internal/health"
)

var update = flag.Bool("update", false, "write the screenshots of docs/images")

// TestBrowser looks at the page with a real one.
func TestBrowser(t *testing.T) {
	f := newFixture(t, nil)
	f.live(t)
	f.show(judged(t, now(), map[string]health.State{"mail": health.Warn}))
	server := httptest.NewServer(f.page)
	defer server.Close()
	b := startBrowser(t)
	for _, look := range []struct {
		name, path    string
		width, height int
		scheme        string
	}{
		{"status-light", "/status", 1280, 1440, "light"},
		{"status-dark", "/status", 1280, 1440, "dark"},
		{"status-phone", "/status", 375, 812, "light"},
		{"status-phone-dark", "/status", 375, 812, "dark"},
		{"", "/status", 320, 600, "light"}, // WCAG 2.2 1.4.10: nothing to scroll sideways
		{"", "/status/incidents.html", 375, 812, "light"},
		{"", "/status/incidents/2026-11-17-payments.html", 375, 812, "dark"},
	} {
		t.Run(look.path+" "+look.scheme, func(t *testing.T) {
			b.open(server.URL+look.path, look.width, look.height, look.scheme)
			var wide []string
			b.eval(`[...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))`, &wide)
			if len(wide) > 0 {
				t.Errorf("wider than the window: %q", wide)
			}
			var small []string
			b.eval(`[...document.querySelectorAll("nav a, footer a, summary")].filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)`, &small)
			if len(small) > 0 {
				t.Errorf("too small to be touched (WCAG 2.2 2.5.8): %q", small)
			}
			if look.name != "" {
				checkShot(t, b.screenshot(false), look.name)
			}
		})
	}
	for _, c := range b.console {
		t.Errorf("console: %s", c)
	}
}

// checkShot looks whether a screenshot shows something, and writes it with -update.
func checkShot(t *testing.T, png []byte, name string) {
	t.Helper()
	if len(png) < 10_000 {
		t.Errorf("screenshot %s: %d bytes, it is empty", name, len(png))
	}
	if !*update {
		return
	}
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "images", name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestKeyboard goes through the page with the tab key alone.
func TestKeyboard(t *testing.T) {
	f := newFixture(t, nil)
	f.live(t)
	f.show(judged(t, now(), nil))
	server := httptest.NewServer(f.page)
	defer server.Close()
	b := startBrowser(t)
	b.open(server.URL+"/status", 1280, 1000, "light")
	var total int
	b.eval(`document.querySelectorAll("a[href], summary").length`, &total)
	if total < 15 {
		t.Fatalf("%d elements for the keyboard, the page is not whole", total)
	}
	type focus struct {
		Text, Outline string
		Inside        bool
		Box           []float64
	}
	seen := map[string]bool{}
	for i := range total {
		b.press("Tab", "", 9)
		var at focus
		b.eval(`(() => { const e = document.activeElement, r = e.getBoundingClientRect();
			return {text: e.tagName + " " + e.textContent + " " + e.href, outline: getComputedStyle(e).outlineStyle,
				inside: r.width > 0 && r.top >= 0 && r.bottom <= innerHeight && r.left >= 0, box: [r.top, r.bottom, innerHeight, scrollY, document.documentElement.scrollHeight]} })()`, &at)
		if at.Outline != "solid" || !at.Inside {
			t.Errorf("element %d, %q: outline %q, in view: %v %v", i, at.Text, at.Outline, at.Inside, at.Box)
		}
		seen[at.Text] = true
		if i == 0 && at.Text != "A Skip to the content "+server.URL+"/status#main" {
			t.Errorf("the first element is %q", at.Text)
		}
	}
	if len(seen) < total-3 { // some are there twice, on top and at the end
		t.Errorf("%d of %d elements were reached", len(seen), total)
	}
	b.eval(`document.querySelector("summary").focus()`, new(any))
	b.press("Enter", "\r", 13)
	var isOpen bool
	b.eval(`document.querySelector("details").open`, &isOpen)
	if !isOpen {
		t.Error("the days with disruptions cannot be opened with the keyboard")
	}
}
