package statuspage

import (
	"bytes"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"sidecar/internal/health"
	"sidecar/test/browser"
)

var update = flag.Bool("update", false, "write the screenshots of docs/images")

// look is how a page is looked at.
type look struct {
	path          string
	width, height int
	scheme        string
	shot          string // the screenshot in docs/images, if there is one
}

func (l look) String() string { return l.path + " " + strconv.Itoa(l.width) + " " + l.scheme }

func looks() []look {
	const list, single = "/status/incidents.html", "/status/incidents/2026-11-17-payments.html"
	return []look{
		{"/status", 1280, 1440, "light", "status-light"},
		{"/status", 1280, 1440, "dark", "status-dark"},
		{"/status", 375, 812, "light", "status-phone"},
		{"/status", 375, 812, "dark", "status-phone-dark"},
		{"/status", 320, 600, "light", ""}, // WCAG 2.2 1.4.10
		{list, 375, 812, "light", ""},
		{list, 1280, 1000, "dark", ""},
		{single, 375, 812, "dark", ""},
		{single, 1280, 1000, "light", ""},
	}
}

// TestBrowser looks at the pages with a real one.
func TestBrowser(t *testing.T) {
	f := newFixture(t, nil)
	f.live(t)
	f.show(judged(t, now(), map[string]health.State{"mail": health.Warn}))
	server := httptest.NewServer(f.page)
	defer server.Close()
	b := browser.Start(t)
	for _, l := range looks() {
		t.Run(l.String(), func(t *testing.T) {
			b.TB = t
			b.Open(server.URL+l.path, l.width, l.height, l.scheme)
			checkLayout(t, b)
			checkContrast(t, b)
			if l.shot != "" {
				checkShot(t, b.Screenshot(), l.shot)
			}
		})
	}
	t.Run("keyboard", func(t *testing.T) {
		b.TB = t
		b.Open(server.URL+"/status", 1280, 1000, "light")
		checkKeyboard(t, b, server.URL+"/status#main")
	})
	t.Run("without JavaScript", func(t *testing.T) {
		b.TB = t
		l := looks()[0]
		b.Open(server.URL+l.path, l.width, l.height, l.scheme)
		with := b.Screenshot()
		b.Call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
		b.Open(server.URL+l.path, l.width, l.height, l.scheme)
		if !bytes.Equal(with, b.Screenshot()) {
			t.Error("the page is not the same without")
		}
		b.Open("data:text/html,<script>document.title='run'</script>", l.width, l.height, l.scheme)
		var title string
		if b.Eval(`document.title`, &title); title != "" {
			t.Error("it was not switched off")
		}
	})
	for _, c := range b.Console {
		t.Errorf("console: %s", c)
	}
}

// checkLayout: nothing scrolls sideways (WCAG 2.2 1.4.10), everything can be touched
// (2.5.8).
func checkLayout(t *testing.T, b *browser.Browser) {
	t.Helper()
	var wide, small []string
	b.Eval(`[...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))`, &wide)
	if len(wide) > 0 {
		t.Errorf("wider than the window: %q", wide)
	}
	b.Eval(`[...document.querySelectorAll("nav a, footer a, summary")].filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)`, &small)
	if len(small) > 0 {
		t.Errorf("too small to be touched: %q", small)
	}
}

// checkContrast computes the contrast of all text with what is behind it, as it is drawn:
// WCAG 2.2 1.4.3 wants 4.5, of large text 3.
func checkContrast(t *testing.T, b *browser.Browser) {
	t.Helper()
	var result struct {
		Texts int
		Poor  []string
	}
	b.Eval(`(() => {
		const rgb = text => text.match(/[\d.]+/g).map(Number);
		const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
		const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
		const behind = e => {
			for (; e; e = e.parentElement) {
				const c = rgb(getComputedStyle(e).backgroundColor);
				if (c.length === 3 || c[3] === 1) return c;
			}
			return [255, 255, 255];
		};
		const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = [];
		let texts = 0;
		while (walk.nextNode()) {
			const e = walk.currentNode.parentElement, style = getComputedStyle(e);
			if (!walk.currentNode.data.trim() || e instanceof SVGElement || style.display === "none") continue;
			texts++;
			const [low, high] = [luminance(rgb(style.color)), luminance(behind(e))].sort((a, b) => a - b);
			const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
			const ratio = (high + 0.05) / (low + 0.05);
			if (ratio < (large ? 3 : 4.5)) poor.push(ratio.toFixed(2) + " " + e.outerHTML.slice(0, 80));
		}
		return {texts, poor};
	})()`, &result)
	if result.Texts < 10 {
		t.Errorf("%d texts, the page is not whole", result.Texts)
	}
	for _, text := range result.Poor {
		t.Errorf("contrast %s", text)
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

// checkKeyboard goes through the page with the tab key alone. The first stop skips to
// the content.
func checkKeyboard(t *testing.T, b *browser.Browser, content string) {
	t.Helper()
	var total int
	b.Eval(`document.querySelectorAll("a[href], summary").length`, &total)
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
		b.Press("Tab", "", 9)
		var at focus
		b.Eval(`(() => { const e = document.activeElement, r = e.getBoundingClientRect();
			return {text: e.tagName + " " + e.textContent + " " + e.href, outline: getComputedStyle(e).outlineStyle,
				inside: r.width > 0 && r.top >= 0 && r.bottom <= innerHeight && r.left >= 0, box: [r.top, r.bottom, innerHeight, scrollY, document.documentElement.scrollHeight]} })()`, &at)
		if at.Outline != "solid" || !at.Inside {
			t.Errorf("element %d, %q: outline %q, in view: %v %v", i, at.Text, at.Outline, at.Inside, at.Box)
		}
		seen[at.Text] = true
		if i == 0 && at.Text != "A Skip to the content "+content {
			t.Errorf("the first element is %q", at.Text)
		}
	}
	if len(seen) < total-3 { // some are there twice, on top and at the end
		t.Errorf("%d of %d elements were reached", len(seen), total)
	}
	b.Eval(`document.querySelector("summary").focus()`, new(any))
	b.Press("Enter", "\r", 13)
	var isOpen bool
	b.Eval(`document.querySelector("details").open`, &isOpen)
	if !isOpen {
		t.Error("the days with disruptions cannot be opened with the keyboard")
	}
}
