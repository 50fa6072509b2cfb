package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sidecar/internal/cli"
	"sidecar/internal/gelf/gelftest"
)

// graylogToken is the token that a fakeGraylog knows.
const graylogToken = "1c2f"

// fakeGraylog is a GELF input with the part of the REST API that finds what it took.
type fakeGraylog struct {
	input, api string // host:port, URL

	mu      sync.Mutex
	asked   int                       // guarded by mu: searches with the right token
	late    int                       // guarded by mu: searches that find nothing yet
	indexed map[string]map[string]any // guarded by mu: messages by event_id
}

func startGraylog(t *testing.T) *fakeGraylog {
	t.Helper()
	g := &fakeGraylog{indexed: map[string]map[string]any{}}
	g.input = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: func(m gelftest.Message) {
		var fields map[string]any
		json.Unmarshal(m.Raw, &fields) // what is no message is not found
		id, _ := fields["_event_id"].(string)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.indexed[id] = fields
	}}).Addr("tcp")
	server := httptest.NewServer(http.HandlerFunc(g.search))
	t.Cleanup(server.Close)
	g.api = server.URL + "/api"
	return g
}

// search answers as Graylog's GET /api/search/messages does: 401 for a wrong token,
// else a table.
func (g *fakeGraylog) search(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	user, password, _ := r.BasicAuth()
	switch {
	case user != graylogToken || password != "token":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.URL.Path != "/api/search/messages":
		w.WriteHeader(http.StatusNotFound)
		return
	}
	g.asked++
	rows := [][]string{}
	for id := range g.indexed {
		if g.asked > g.late && r.FormValue("query") == fmt.Sprintf(`event_id:"%s"`, id) {
			rows = append(rows, []string{id})
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"schema": []map[string]string{{"field": "event_id"}}, "datarows": rows})
}

// TestSendTest: what is sent, found and said, and with which exit code it ends.
func TestSendTest(t *testing.T) {
	t.Setenv("GOOD", graylogToken)
	t.Setenv("BAD", "no")
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	const id = `event_id:"(test-[a-z2-7]{26})"\n$`
	for _, c := range []struct {
		name string
		late int // searches that find nothing
		args string
		code int
		want string // pattern of the whole output
		sent bool
	}{
		{"without API", 0, "", cli.ExitOK, `^confirmed  \S+ by INPUT\nsearch     ` + id, true},
		{"found", 0, "--api API --token env:GOOD", cli.ExitOK, `^confirmed  \S+ by INPUT\nfound      \S+ by \S+  ` + id, true},
		{"found later", 2, "--api API/ --token env:GOOD", cli.ExitOK, `\nfound      \S+ by \S+  ` + id, true},
		{"never found", 1 << 30, "--api API --token env:GOOD --wait 10ms", cli.ExitFailed, `\nlogship: confirmed by the receiver, but not found within 10ms; look in Graylog`, true},
		{"wrong token", 0, "--api API --token env:BAD", cli.ExitTLS, `\nlogship: confirmed by the receiver, but cannot search: access token is refused: answer 401`, true},
		{"wrong path", 0, "--api API/api --token env:GOOD", cli.ExitFailed, `but cannot search: answer 404`, true},
		{"API down", 0, "--api " + closed.URL + " --token env:GOOD", cli.ExitUnreachable, `but cannot search: Get`, true},
		{"no token", 0, "--api API", cli.ExitUsage, `^logship: --api needs --token: make one`, false},
		{"token in the wrong place", 0, "--api API --token 1c2f", cli.ExitUsage, `^logship: --token: want [^1]*$`, false},
		{"token not set", 0, "--api API --token env:NOWHERE", cli.ExitConfig, `^logship: read secret env:NOWHERE: the variable is not set`, false},
		{"token alone", 0, "--token env:GOOD", cli.ExitUsage, `^logship: --token is for --api`, false},
		{"no URL", 0, "--api graylog:9000 --token env:GOOD", cli.ExitUsage, `^logship: --api: want a URL`, false},
		{"no time", 0, "--wait 0s", cli.ExitUsage, `^logship: --wait: want more`, false},
		{"receiver down", 0, "--set output.url=gelf+tcp://" + closed.Listener.Addr().String(), cli.ExitUnreachable, `^logship: .*refused`, false},
		{"left out", 0, `--set rule=[{name="x",action="drop",match={identifier="logship"}}]`, cli.ExitFailed, `^logship: a rule of the configuration leaves out`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGraylog(t)
			g.late = c.late
			t.Setenv("LOGSHIP_CONFIG_DIR", t.TempDir())
			args := append([]string{"send-test", "--set", "output.url=gelf+tcp://" + g.input, "--set", "fields.environment=staging"},
				strings.Fields(strings.ReplaceAll(c.args, "API", g.api))...)
			var out strings.Builder
			code := run(args, nil, &out, &out)
			found := regexp.MustCompile(strings.ReplaceAll(c.want, "INPUT", regexp.QuoteMeta(g.input))).FindStringSubmatch(out.String())
			if code != c.code || found == nil {
				t.Errorf("ended with %d:\n%s", code, &out)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if (len(g.indexed) == 1) != c.sent {
				t.Fatalf("sent: %v", g.indexed)
			}
			for sent, m := range g.indexed {
				if len(found) > 1 && found[1] != sent || m["_send_test"] != "true" || m["_environment"] != "staging" || m["short_message"] != "logship send-test" {
					t.Errorf("sent %v, said %v", m, found)
				}
			}
			if c.code == cli.ExitOK && c.late > 0 && g.asked != c.late+1 {
				t.Errorf("asked %d times", g.asked)
			}
		})
	}
}
