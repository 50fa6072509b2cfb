package probe

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
)

func httpAnswer(status, contentType, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, contentType, len(body), body)
}

// TestHTTPAnswers has status codes and bodies that agree and disagree.
func TestHTTPAnswers(t *testing.T) {
	const js = "application/json"
	for _, c := range []struct {
		name, answer, options string
		state                 health.State
		mismatches            uint64
		words                 string
	}{
		{"well", httpAnswer("200 OK", js, `{"status":"ok"}`), "", health.Pass, 0, `says status "ok"`},
		{"200 with down in the body", httpAnswer("200 OK", js, `{"status":"down"}`), "", health.Fail, 1, "down"},
		{"200 with a child that is down", httpAnswer("200 OK", js, `{"status":"ok","info":{"worker":{"status":"down"}}}`), "", health.Fail, 1, "worker"},
		{"503 with an error", httpAnswer("503 Service Unavailable", js, `{"status":"error","error":{"db":{"status":"down"}}}`), "", health.Fail, 0, "db"},
		{"503 while shutting down", httpAnswer("503 Service Unavailable", js, `{"status":"shutting_down"}`), "", health.Warn, 1, "shutting_down"},
		{"503 with ok", httpAnswer("503 Service Unavailable", js, `{"status":"ok"}`), "", health.Warn, 1, "but the body"},
		{"503 while starting", httpAnswer("503 Service Unavailable", js, `{"status":"starting"}`), "", health.Starting, 0, ""},
		{"warn is well", httpAnswer("200 OK", js, `{"status":"warn"}`), "", health.Warn, 0, ""},
		{"404 of Nest", httpAnswer("404 Not Found", js, `{"statusCode":404,"error":"Not Found"}`), "", health.Fail, 0, "status 404"},
		{"a page", httpAnswer("200 OK", "text/html", "<html>"), "", health.Pass, 0, ""},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", "", health.Pass, 0, "status 204"},
		{"broken JSON", httpAnswer("200 OK", js, `{"status":"ok"`), "", health.Warn, 0, "ends too early"},
		{"broken JSON where a format is demanded", httpAnswer("200 OK", js, `{"status":"ok"`), "format=terminus", health.Fail, 0, "ends too early"},
		{"broken JSON behind 503", httpAnswer("503 X", js, `{"stat`), "", health.Fail, 0, "status 503"},
		{"another format", httpAnswer("200 OK", js, `{"status":"pass"}`), "format=spring", health.Fail, 0, "nothing about health"},
		{"body not looked at", httpAnswer("200 OK", js, `{"status":"down"}`), "format=none", health.Pass, 0, ""},
		{"expected code", httpAnswer("401 Unauthorized", "text/plain", "who are you"), "status=401", health.Pass, 0, ""},
		{"unexpected code", httpAnswer("200 OK", "text/plain", "hello"), "status=401", health.Fail, 0, "status 200"},
		{"contains", httpAnswer("200 OK", "text/html", "<p>all is well"), "contains=well", health.Pass, 0, ""},
		{"lacks", httpAnswer("200 OK", "text/html", "<p>all is"), "contains=well", health.Fail, 0, "does not contain"},
		{"path", httpAnswer("200 OK", js, `{"cluster":{"status":"yellow"}}`), "json=$.cluster.status&pass=green&warn=yellow", health.Warn, 0, "yellow"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/login\r\nContent-Length: 0\r\n\r\n", "", health.Fail, 0, "leads to"},
		{"interim answers", "HTTP/1.1 103 Early Hints\r\n\r\n" + httpAnswer("200 OK", "text/plain", "ok"), "", health.Pass, 0, `says "ok"`},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndow\r\n1\r\nn\r\n0\r\n\r\n", "", health.Fail, 1, ""},
		{"a body that ends too early", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok", "", health.Fail, 0, "unexpected EOF"},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "", health.Fail, 0, "malformed HTTP"},
		{"nothing", "", "", health.Fail, 0, "EOF"},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "method=HEAD", health.Pass, 0, ""},
		{"HEAD of what would be packed", "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n", "method=HEAD", health.Pass, 0, ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", "", health.Pass, 0, ""},
		{"an encoding not asked for", "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nxx", "", health.Warn, 0, "br"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := Env{Counters: new(Counters)}
			r := probe(t, "http://"+listen(t, "tcp", says(c.answer))+"/health#"+c.options, env)
			want(t, r, c.state, c.words)
			if n := env.Counters.StatusMismatch.Load(); n != c.mismatches {
				t.Errorf("%d mismatches counted, want %d", n, c.mismatches)
			}
			if n := env.Counters.Redirects.Load(); (n == 1) != (c.name == "redirect") {
				t.Errorf("%d redirects counted", n)
			}
		})
	}
}

// TestHTTPRequest: what is sent, exactly.
func TestHTTPRequest(t *testing.T) {
	got := make(chan string, 1)
	address := listen(t, "tcp", func(c net.Conn) {
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		got <- string(buf[:n])
		io.WriteString(c, httpAnswer("200 OK", "text/plain", "ok"))
	})
	// A proxy of the environment would send this elsewhere.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("PROBE_TOKEN", "Bearer s3cret")
	c := mustParse(t, "http://"+address+"/a%2Fb?x=1#host=app.example.com&header.Authorization=env:PROBE_TOKEN", Env{})
	want(t, c.Run(t.Context()), health.Pass)
	wantRequest := "GET /a%2Fb?x=1 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: healthd\r\n" +
		"Connection: close\r\nAuthorization: Bearer s3cret\r\nAccept: application/health+json, application/json, text/plain;q=0.5, */*;q=0.1\r\n\r\n"
	if r := <-got; r != wantRequest {
		t.Errorf("sent %q, want %q", r, wantRequest)
	}
	if strings.Contains(c.Key, "s3cret") {
		t.Error("the key has the secret")
	}
	t.Setenv("PROBE_TOKEN", "two\r\nHost: other")
	want(t, c.Run(t.Context()), health.Fail, "several lines")
	t.Setenv("PROBE_TOKEN", "")
	want(t, c.Run(t.Context()), health.Fail, "PROBE_TOKEN")
}

// TestHTTPAttacks: targets that answer without end, hang, or blow up are cut off soon
// and with little memory.
func TestHTTPAttacks(t *testing.T) {
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	var empty bytes.Buffer
	gzip.NewWriter(&empty).Close()
	endless := func(head string, chunk []byte) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, head)
			for n := 0; n < 100<<20; n += len(chunk) {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	big := bytes.Repeat([]byte("x"), 1<<16)
	for _, c := range []struct {
		name    string
		server  func(net.Conn)
		state   health.State
		words   string
		tooLong uint64
	}{
		{"100 MB", endless("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n", big), health.Warn, "over 256 KiB", 1},
		{"100 MB of JSON", endless("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", big), health.Warn, "over 256 KiB", 1},
		{"100 MB behind 500", endless("HTTP/1.1 500 X\r\n\r\n", big), health.Fail, "status 500", 1},
		{"endless header", endless("HTTP/1.1 200 OK\r\nX: ", big), health.Fail, "too long", 1},
		{"endless headers", endless("HTTP/1.1 200 OK\r\n", []byte("X-A: b\r\n")), health.Fail, "too long", 1},
		{"endless interim answers", endless("", []byte("HTTP/1.1 100 Continue\r\n\r\n")), health.Fail, "too long", 1},
		{"chunks of one byte", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []byte(strings.Repeat("1\r\nx\r\n", 1000))), health.Warn, "over 256 KiB", 1},
		{"chunks with long extensions", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []byte("1;"+strings.Repeat("e", 2000)+"\r\nx\r\n")), health.Fail, "", 0},
		{"gzip bomb", func(c net.Conn) {
			c.Read(make([]byte, 4096))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len())
			c.Write(bomb.Bytes())
		}, health.Warn, "over 256 KiB", 1},
		{"gzip of nothing, again and again", endless("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", bytes.Repeat(empty.Bytes(), 1000)), health.Warn, "over 256 KiB", 1},
		{"broken gzip", says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\nnot gzip at all, no."), health.Warn, "gzip", 0},
		{"hangs", hangs, health.Fail, "no answer in time", 0},
		{"hangs in the head", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A"); hangs(c) }, health.Fail, "no answer in time", 0},
		{"hangs in the body", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
			hangs(c)
		}, health.Fail, "no answer in time", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := Env{Counters: new(Counters)}
			check := mustParse(t, "http://"+listen(t, "tcp", c.server)+"/#timeout=300ms", env)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			// Only who hangs is left by time; the others by what they have sent.
			ctx, cancel := t.Context(), func() {}
			if strings.HasPrefix(c.name, "hangs") {
				ctx, cancel = context.WithTimeout(ctx, check.Timeout)
			}
			r := check.Run(ctx)
			cancel()
			runtime.ReadMemStats(&after)
			want(t, r, c.state, c.words)
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("allocated %d bytes", used)
			}
			if n := env.Counters.TooLong.Load(); n != c.tooLong {
				t.Errorf("%d too long, want %d", n, c.tooLong)
			}
		})
	}
}

func TestHTTPOverUnixSocketAndTLS(t *testing.T) {
	socket := listen(t, "unix", says(httpAnswer("200 OK", "text/plain", "ok")))
	want(t, probe(t, "http://app/health#socket="+socket, Env{}), health.Pass, `says "ok"`)

	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, probe(t, s.URL+"/#verify=no", Env{}), health.Pass)
	want(t, probe(t, s.URL+"/#ca="+ca+"&name=example.com", Env{}), health.Pass)
	want(t, probe(t, s.URL+"/#ca="+ca+"&name=example.org", Env{}), health.Fail, "example.org")
	want(t, probe(t, s.URL+"/", Env{}), health.Fail, "certificate")
	want(t, probe(t, "https://"+listen(t, "tcp", hangs)+"/#timeout=100ms", Env{}), health.Fail, "no answer in time")
}

// TestRemoteAddresses: an address of another machine is refused when it is parsed, and
// a name that leads to one when it has been resolved.
func TestRemoteAddresses(t *testing.T) {
	for _, target := range []string{"http://192.0.2.1/", "tcp://192.0.2.1:80", "redis://[2001:db8::1]", "mongodb://192.0.2.1", "postgresql://192.0.2.1",
		"mysql://192.0.2.1", "tls://192.0.2.1", "dns://192.0.2.1/example.com", "logship://192.0.2.1", "healthd://192.0.2.1", "healthd+tls://[2001:db8::1]"} {
		if _, err := Parse(target, nil, Env{}); err == nil || !strings.Contains(err.Error(), "set probe.allow_remote = true") {
			t.Errorf("%s: %v", target, err)
		}
		mustParse(t, target, Env{AllowRemote: true})
	}
	if _, err := Parse("healthd://web-01:9481", nil, Env{}); !errors.Is(err, errRemote) {
		t.Errorf("a hub that may not ask another machine: %v", err)
	}
	mustParse(t, "healthd://localhost:9481", Env{})
	mustParse(t, "healthd://web-01#socket=/run/web-01.sock", Env{})
	_, err := endpoint{network: "tcp", address: "192.0.2.1:80"}.dial(t.Context())
	want(t, failed("connect", err), health.Fail, "allow_remote")
	refused := loopbackOnly("tcp", "[::ffff:192.0.2.1]:80", nil)
	if refused == nil || loopbackOnly("tcp", "[::ffff:127.0.0.1]:80", nil) != nil || loopbackOnly("tcp", "[::1]:80", nil) != nil {
		t.Error("loopback addresses are not told from others")
	}
}

// TestConnectionEndsWithItsContext: cancelling does not wait for the deadline.
func TestConnectionEndsWithItsContext(t *testing.T) {
	connected := make(chan struct{})
	address := listen(t, "tcp", func(c net.Conn) {
		c.Read(make([]byte, 4096))
		close(connected)
		hangs(c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { <-connected; cancel() }()
	started := time.Now()
	want(t, mustParse(t, "http://"+address, Env{}).Run(ctx), health.Fail)
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// FuzzHTTP: any answer is judged, within the limits.
func FuzzHTTP(f *testing.F) {
	f.Add([]byte(httpAnswer("200 OK", "application/json", `{"status":"ok"}`)))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndow\r\n1\r\nn\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 301 X\r\nLocation: \x00\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &httpTarget{web: &web{method: "GET"}, format: formats()["auto"], counters: new(Counters)}
		a, err := (&web{method: "GET"}).readAnswer(bytes.NewReader(b), nil, maxBodyBytes)
		if err != nil {
			return
		}
		if len(a.body) > maxBodyBytes {
			t.Errorf("a body of %d bytes", len(a.body))
		}
		if r := h.judge(a); r.Text == "" || len(r.Text) > maxTextBytes || a.code >= 300 && r.State == health.Pass {
			t.Errorf("judged %v", r)
		}
	})
}
