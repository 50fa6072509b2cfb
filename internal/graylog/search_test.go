package graylog_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sidecar/internal/graylog"
)

// TestFind: what is asked, and what each answer means.
func TestFind(t *testing.T) {
	const id = "test-abc"
	row := func(id string) string {
		return fmt.Sprintf(`{"schema":[{"column_type":"field","type":"string","field":"event_id","name":"field: event_id"}],"datarows":[%s],"metadata":{}}`, id)
	}
	for _, c := range []struct {
		name, body string
		status     int
		found      bool
		err        string
		token      bool
	}{
		{"found", row(`["test-abc"]`), 200, true, "", false},
		{"another", row(`["test-abcd"]`), 200, false, "", false},
		{"none yet", row(""), 200, false, "", false},
		{"wrong token", ``, 401, false, "System, Users, Edit tokens", true},
		{"no right", `{"type":"ApiError","message":"Not authorized"}`, 403, false, "share the stream", true},
		{"wrong path", `<html>`, 404, false, "ends in /api", false},
		{"web interface", `<html>`, 200, false, "ends in /api", false},
		{"other JSON", `{}`, 200, false, "ends in /api", false},
		{"explained", `{"type":"ApiError","message":"no index"}`, 500, false, `answer 500: "no index"`, false},
		{"unexplained", ``, 503, false, "answer 503", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked *http.Request
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			api, err := url.Parse(server.URL + "/api")
			if err != nil {
				t.Fatal(err)
			}
			s := graylog.Search{API: api, Token: "secret", Client: server.Client()}
			found, err := s.Find(t.Context(), id)
			if found != c.found || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || errors.Is(err, graylog.ErrToken) != c.token {
				t.Errorf("%v, %v", found, err)
			}
			user, password, _ := asked.BasicAuth()
			q := asked.URL.Query()
			if asked.URL.Path != "/api/search/messages" || user != "secret" || password != "token" || q.Get("query") != `event_id:"test-abc"` ||
				q.Get("fields") != "event_id" || q.Get("timerange") != "1d" || asked.Header.Get("Accept") != "application/json" {
				t.Errorf("asked %v %v", asked.URL, asked.Header)
			}
		})
	}
}
