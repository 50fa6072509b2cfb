package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// pageServer answers as a service with metrics does, and badly below other paths.
func pageServer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/metrics":
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "asked_for{accept=%q,app=%q} 1\n", r.Header.Get("Accept"), r.Header.Get("X-App"))
	case "/long":
		_, _ = io.WriteString(w, strings.Repeat("x 1\n", 1000))
	case "/half":
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "x 1\n")
	case "/away":
		http.Redirect(w, r, "/metrics", http.StatusFound)
	default:
		http.NotFound(w, r)
	}
}

func TestPage(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(pageServer))
	t.Cleanup(s.Close)
	p, err := ParsePage(s.URL+"/metrics#mode=lenient&header.X-App=shop", []string{"mode", "sum"}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	if p.URL != s.URL+"/metrics" || len(p.Options) != 1 || p.Options["mode"] != "lenient" || !strings.HasSuffix(p.Key, "#header.X-App=shop&mode=lenient") {
		t.Errorf("parsed %+v", p)
	}
	page, contentType, err := p.Get(t.Context(), "text/plain", []byte("before\n"), 1000, nil)
	if got := string(page); err != nil || got != "before\nasked_for{accept=\"text/plain\",app=\"shop\"} 1\n" || contentType != "text/plain; version=0.0.4" {
		t.Errorf("%q, %q, %v", got, contentType, err)
	}
	if page, _, err = p.Get(t.Context(), "text/plain", page[:0], len(page)-7, nil); err != nil {
		t.Errorf("a page of just the limit: %v", err)
	}
	if _, _, err = p.Get(t.Context(), "text/plain", nil, len(page)-1, nil); !errors.Is(err, ErrTooLong) {
		t.Errorf("a byte more: %v", err)
	}
	asked, refused := 0, errors.New("no room")
	if _, _, err = p.Get(t.Context(), "text/plain", nil, 1000, func(size int) error { asked = size; return nil }); err != nil || asked != len(page) {
		t.Errorf("claimed %d of %d bytes, %v", asked, len(page), err)
	}
	if _, _, err = p.Get(t.Context(), "text/plain", nil, 1000, func(int) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a claim that is refused: %v", err)
	}
	for path, want := range map[string]string{
		"/long": "the answer is too long: over 1000 bytes", "/half": "read the body: unexpected EOF",
		"/away": "status 302", "/none": "status 404",
	} {
		p, err := ParsePage(s.URL+path, nil, Env{})
		if err != nil {
			t.Fatal(err)
		}
		if page, _, err := p.Get(t.Context(), "text/plain", []byte("x"), 1000, nil); err == nil || err.Error() != want || string(page) != "x" {
			t.Errorf("%s: %q, %v; want %s", path, page, err, want)
		}
	}
}

func TestPageOfSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(pageServer))
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	p, err := ParsePage("http://shop/metrics#socket="+path, nil, Env{})
	if err != nil {
		t.Fatal(err)
	}
	if page, _, err := p.Get(t.Context(), "a/b", nil, 1000, nil); err != nil || !strings.Contains(string(page), `accept="a/b"`) {
		t.Errorf("%q, %v", page, err)
	}
}

func TestPageRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"/metrics":                       `parse page "/metrics": want scheme:target`,
		"redis://127.0.0.1:6379":         `parse page "redis://127.0.0.1:6379": want http://host:port/path`,
		"http:metrics":                   `parse page "http:metrics": want http://host:port/path`,
		"http://u:p@127.0.0.1/metrics":   `parse page "http://…@127.0.0.1/metrics": a password in the URL`,
		"http://127.0.0.1/metrics#mod=x": `unusable option "mod": there are host, mode, socket`,
	} {
		if _, err := ParsePage(text, []string{"mode"}, Env{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := ParsePage("http://192.0.2.1/metrics", nil, Env{}); !errors.Is(err, errRemote) {
		t.Errorf("another machine is asked: %v", err)
	}
}
