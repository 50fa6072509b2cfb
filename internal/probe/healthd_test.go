package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
)

// noon is when the machines of these tests have judged.
const noon = "2026-11-20T12:00:00Z"

// summaryAnswer is a whole answer with this summary, at noon and of format 1.
func summaryAnswer(rest string) string {
	return httpAnswer("200 OK", "application/json", `{"healthd":1,"at":"`+noon+`"`+rest+`}`)
}

// TestHealthdAnswers: what a machine says, and what is no answer of a healthd.
func TestHealthdAnswers(t *testing.T) {
	services := `,"state":"warn","up":true,"why":["cron: fail: x"],"services":{"payments":{"state":"pass","up":true},"big-shop":{"state":"fail","up":false,"why":["shop/http: fail: status 503","and 2 more"]}}`
	for _, c := range []struct {
		name, answer, options string
		state                 health.State
		words                 string
	}{
		{"pass", summaryAnswer(`,"state":"pass","up":true`), "", health.Pass, "says pass"},
		{"warn", summaryAnswer(services), "", health.Warn, "says warn: cron: fail: x"},
		{"fail", summaryAnswer(`,"state":"fail","up":false,"why":["a: fail","b: unknown"]`), "", health.Fail, "says fail: a: fail; b: unknown"},
		{"unknown", summaryAnswer(`,"state":"unknown","up":false`), "", health.Unknown, "says unknown"},
		{"no state", summaryAnswer(``), "", health.Unknown, "says unknown"},
		{"starting", summaryAnswer(`,"state":"starting","up":false`), "", health.Starting, "says starting"},
		{"restarted, and well before", summaryAnswer(`,"state":"starting","up":true`), "", health.Warn, "says warn"},
		{"maintenance", summaryAnswer(`,"state":"maintenance","up":true,"why":["in maintenance until tomorrow"]`), "", health.Maintenance, "until tomorrow"},
		{"a service", summaryAnswer(services), "service=Payments", health.Pass, "says pass"},
		{"a service that is down", summaryAnswer(services), "service=Big%20Shop", health.Fail, "says fail: shop/http: fail: status 503; and 2 more"},
		{"no such service", summaryAnswer(services), "service=Blog", health.Fail, `no service of the public name "blog"`},
		{"what a later version adds", summaryAnswer(`,"state":"pass","up":true,"new":[{}]`), "", health.Pass, ""},
		{"another format", httpAnswer("200 OK", "application/json", `{"healthd":2,"at":"`+noon+`","state":"pass"}`), "", health.Fail, "want a summary of format 1, found 2"},
		{"another document", httpAnswer("200 OK", "application/json", `{"status":"pass"}`), "", health.Fail, "found 0"},
		{"a word that is no state", summaryAnswer(`,"state":"fine"`), "", health.Fail, "does not answer as a healthd"},
		{"garbage", httpAnswer("200 OK", "application/json", "\x00\xff{{{"), "", health.Fail, "does not answer as a healthd"},
		{"two documents", httpAnswer("200 OK", "application/json", `{"healthd":1,"at":"`+noon+`","state":"pass"}{}`), "", health.Fail, "does not answer as a healthd"},
		{"an old healthd", httpAnswer("404 Not Found", "text/plain", "404 page not found"), "", health.Fail, "status 404"},
		{"somebody else's page", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "", health.Fail, "status 302"},
		{"packed as nobody asked", "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nxx", "", health.Fail, "br"},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "", health.Fail, "silent: "},
		{"nothing", "", "", health.Fail, "silent: unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := probe(t, "healthd://"+listen(t, "tcp", says(c.answer))+"#"+c.options, Env{Now: at(noon)})
			want(t, r, c.state, c.words)
		})
	}
}

// TestHealthdThatIsSilent: whoever does not answer has failed, whatever it said before.
func TestHealthdThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	want(t, probe(t, "healthd://"+address, Env{}), health.Fail, "silent: connection refused")
	want(t, probe(t, "healthd://"+listen(t, "tcp", hangs)+"#timeout=100ms", Env{}), health.Fail, "silent: no answer in time")

	env := Env{Counters: new(Counters)}
	endless := listen(t, "tcp", func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
		for b := []byte(strings.Repeat(" ", 64<<10)); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	want(t, probe(t, "healthd://"+endless, env), health.Fail, "too long")
	want(t, probe(t, "healthd://"+listen(t, "tcp", says(httpAnswer("200 OK", "text/html", "<html>"))), env), health.Fail, "healthd")
	if long, bad := env.Counters.TooLong.Load(), env.Counters.Malformed.Load(); long != 1 || bad != 1 {
		t.Errorf("%d too long and %d malformed answers are counted", long, bad)
	}
}

// TestHealthdIsAsked: for the summary, and as the options say.
func TestHealthdIsAsked(t *testing.T) {
	asked := ""
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Authorization"))
		fmt.Fprint(w, `{"healthd":1,"at":"`+noon+`","state":"pass","up":true}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	t.Setenv("HEALTHD_TEST_TOKEN", "Bearer s3cret")
	target := "healthd+tls" + strings.TrimPrefix(s.URL, "https")
	want(t, probe(t, target+"#verify=no&header.Authorization=env:HEALTHD_TEST_TOKEN", Env{Now: at(noon)}), health.Pass)
	if asked != "GET /health/summary Bearer s3cret" {
		t.Errorf("asked %q", asked)
	}
	want(t, probe(t, target, Env{Now: at(noon)}), health.Fail, "silent: ", "certificate")
	l, err := net.Listen("tcp", "127.77.94.81:9481") // the port by itself, where nobody else is
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Close()
		}
		accepted <- err
	}()
	want(t, probe(t, "healthd://127.77.94.81", Env{}), health.Fail, "silent")
	l.Close()
	if err := <-accepted; err != nil {
		t.Errorf("the port that healthd has by itself was not asked: %v", err)
	}
	if c := mustParse(t, "healthd://127.0.0.1", Env{}); !strings.HasPrefix(c.Key, "healthd://127.0.0.1#") || c.Timeout != 3*time.Second {
		t.Errorf("%+v", c)
	}
}

// TestOldSummariesDoNotCount: a machine that judges no more, one whose answers something
// in between keeps, and one whose clock is wrong.
func TestOldSummariesDoNotCount(t *testing.T) {
	start := at(noon)()
	now := start
	var c *healthd
	machine := func() { c = &healthd{now: func() time.Time { return now }, counters: new(Counters)}; now = start }
	see := func(after, judged, age time.Duration, state health.State, words ...string) {
		t.Helper()
		now = now.Add(after)
		s := &health.Summary{At: start.Add(judged), AgeSeconds: age.Seconds(), Brief: health.Brief{State: health.Pass, Up: true}}
		want(t, c.judge(s), state, words...)
	}
	const limit = maxSummaryAge

	machine() // it says itself how old its judgement is
	see(0, 0, 0, health.Pass)
	see(limit, 0, limit, health.Pass)
	see(1, 0, limit+1, health.Fail, "stale: has judged nothing for 15s")
	see(time.Second, limit+time.Second, 0, health.Pass)

	machine() // the same answer again and again
	see(0, 0, 0, health.Pass)
	see(limit, 0, 0, health.Pass)
	see(1, 0, 0, health.Fail, "stale")
	see(time.Hour, 0, 0, health.Fail, "stale: has judged nothing for 1h0m15s")
	see(0, time.Hour+limit, 0, health.Pass)

	machine() // the clock may be off by so much
	see(0, -maxClockOffset, 0, health.Pass)
	see(0, maxClockOffset, 0, health.Pass)
	see(time.Second, time.Second-time.Hour, 0, health.Unknown, "its clock is off by 1h0m0s, or what it says is old")

	machine() // it goes on, only its clock is wrong
	see(0, -time.Hour, 0, health.Unknown, "or what it says is old")
	see(10*time.Second, 10*time.Second-time.Hour, 0, health.Warn, "its clock is off by 1h0m0s")
	see(10*time.Second, 20*time.Second+time.Hour, 0, health.Warn, "its clock is off by 1h0m0s")
	r := c.judge(&health.Summary{At: now, Brief: health.Brief{State: health.Fail}})
	want(t, r, health.Fail, "says fail")
	if off := value(t, r, "clock_offset_seconds"); off != 0 {
		t.Errorf("the clock is off by %v", off)
	}

	machine() // an answer without a time
	want(t, c.judge(&health.Summary{Brief: health.Brief{State: health.Pass, Up: true}}), health.Fail, "stale")
}

// FuzzHealthd: any answer is judged, within the limits, and well only if it says so.
func FuzzHealthd(f *testing.F) {
	f.Add([]byte(`{"healthd":1,"at":"`+noon+`","age_seconds":0.5,"state":"pass","up":true}`), "")
	f.Add([]byte(`{"healthd":1,"at":"9999-01-01T00:00:00Z","age_seconds":1e300,"state":"starting","up":true,"why":["\u0000"]}`), "")
	f.Add([]byte(`{"healthd":1,"at":"0001-01-01T00:00:00Z","age_seconds":-1e300,"services":{"a":{"state":"pass"}}}`), "a")
	f.Fuzz(func(t *testing.T, b []byte, service string) {
		s, err := readSummary(answer{code: 200, body: b})
		if err != nil {
			return
		}
		c := &healthd{now: at(noon), service: service, counters: new(Counters)}
		r := c.judge(s)
		if r.Text == "" || len(r.Text) > maxTextBytes || r.State > health.Maintenance {
			t.Errorf("judged %v", r)
		}
		if !json.Valid(b) || r.State == health.Pass && !strings.Contains(string(b), "pass") {
			t.Errorf("%s passes", b)
		}
	})
}
