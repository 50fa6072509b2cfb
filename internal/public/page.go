package public

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"sidecar/internal/health"
)

// maxBody is the size of the largest body: monitors read only so much, and search
// less (health.md section 2 allows 1 KiB).
const maxBody = 1023

// page is an answer, ready to be sent. Immutable.
type page struct {
	code                int
	body                []byte
	contentType, length []string // of one element, as in an http.Header
	stale               *page    // the answer when snapshots stop coming
}

// These are values of headers, shared by all answers and never changed.
var (
	noStore = []string{"no-store"}
	allowed = []string{"GET, HEAD"}
	closing = []string{"close"}

	typeJSON = []string{"application/health+json"}
	typeText = []string{"text/plain; charset=utf-8"}
	typeXML  = []string{"text/xml; charset=utf-8"}
)

var (
	notFound   = newPage(http.StatusNotFound, typeText, []byte("not found\n"))
	notAllowed = newPage(http.StatusMethodNotAllowed, typeText, []byte("method not allowed\n"))
)

func newPage(code int, contentType []string, body []byte) *page {
	return &page{code: code, body: body, contentType: contentType, length: []string{strconv.Itoa(len(body))}}
}

// shown is all that the public may know of a node, or of the machine, which is the
// first and has no name.
type shown struct {
	name  string
	state health.State
	up    bool
	parts []int // what it shows of others, by name: indexes of shown
}

func (s shown) equal(other shown) bool {
	return s.name == other.name && s.state == other.state && s.up == other.up && slices.Equal(s.parts, other.parts)
}

// show takes what is public out of a snapshot, sorted by name.
func show(s *health.Snapshot) []shown {
	all := []shown{{state: s.State, up: s.Up}}
	var nodes []*health.NodeState
	for i := range s.Nodes {
		if s.Nodes[i].Public != "" {
			nodes = append(nodes, &s.Nodes[i])
		}
	}
	slices.SortFunc(nodes, func(a, b *health.NodeState) int { return cmp.Compare(a.Public, b.Public) })
	place := make(map[string]int, len(nodes)+1)
	place[""] = 0
	for i, n := range nodes {
		all = append(all, shown{name: n.Public, state: n.State, up: n.Up})
		place[n.ID] = i + 1
	}
	for i, n := range nodes {
		for around := n; ; {
			id := around.Parent
			if p, ok := place[id]; ok {
				all[p].parts = append(all[p].parts, i+1)
			}
			if around = s.Node(id); around == nil {
				break
			}
		}
	}
	return all
}

// status is the state in the words of the IETF draft health+json: pass and warn go
// with 200, fail with 503.
func (s shown) status() string {
	switch {
	case s.up && s.state == health.Pass:
		return "pass"
	case s.up:
		return "warn"
	}
	return "fail"
}

func (s shown) code() int {
	if s.up {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// summary is the one word for the state, ALL-OK only if it is pass.
func (s shown) summary() string {
	switch s.state {
	case health.Pass:
		return "ALL-OK"
	case health.Warn:
		return "DEGRADED"
	case health.Fail:
		return "DOWN"
	case health.Starting:
		return "STARTING"
	case health.Maintenance:
		return "MAINTENANCE"
	}
	return "UNKNOWN"
}

// part is the state as one among others, in words that differ from those for the
// whole: a keyword monitor must not take a healthy part for a healthy whole.
func (s shown) part() string {
	switch s.state {
	case health.Pass:
		return "up"
	case health.Warn:
		return "degraded"
	case health.Fail:
		return "down"
	}
	return s.state.String()
}

// makePages makes all answers.
func makePages(all []shown) map[string]*page {
	pages := map[string]*page{}
	unknown := make([]shown, len(all)) // the same, when nothing is known any more
	for i, s := range all {
		unknown[i] = shown{name: s.name, parts: s.parts}
	}
	for i, s := range all {
		base := "/health"
		if i > 0 {
			base += "/" + s.name
		}
		formats := []struct {
			ends   []string
			render func(shown, []shown) *page
		}{
			{[]string{"", "/", ".json"}, renderJSON},
			{[]string{".txt"}, renderText},
			{[]string{".xml"}, renderXML},
		}
		for _, f := range formats {
			p := f.render(s, all)
			p.stale = f.render(unknown[i], unknown)
			for _, end := range f.ends {
				pages[base+end] = p
				if i > 0 {
					pages["/health/"+health.Slug(s.name)+end] = p
				}
			}
		}
	}
	return pages
}

// renderJSON makes one line: status, summary, up, name (not for the machine), and the
// parts. If they do not fit, those that are not up come first, and more says how many
// are left out.
func renderJSON(s shown, all []shown) *page {
	b := append([]byte(`{"status":"`), s.status()...)
	b = append(b, `","summary":"`...)
	b = append(b, s.summary()...)
	b = append(b, `","up":`...)
	b = strconv.AppendBool(b, s.up)
	if s.name != "" {
		b = append(b, `,"name":`...)
		b = appendString(b, s.name)
	}
	b = appendParts(b, s.parts, all)
	return newPage(s.code(), typeJSON, append(b, "}\n"...))
}

func appendParts(b []byte, parts []int, all []shown) []byte {
	if len(parts) == 0 {
		return b
	}
	var entries [][]byte
	total := len(b) + len(`,"parts":[]`+"}\n")
	for _, i := range parts {
		e := appendString([]byte(`{"n":`), all[i].name)
		e = append(e, `,"s":"`+all[i].part()+`"}`...)
		entries = append(entries, e)
		total += len(e) + len(",")
	}
	left := 0
	if total > maxBody {
		entries, left = fit(entries, parts, all, maxBody-len(b)-len(`,"parts":[],"more":1234567}`+"\n"))
	}
	b = append(b, `,"parts":[`...)
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	b = append(b, ']')
	if left > 0 {
		b = strconv.AppendInt(append(b, `,"more":`...), int64(left), 10)
	}
	return b
}

// fit returns the entries that have room, those that do not pass first, and how many
// have none.
func fit(entries [][]byte, parts []int, all []shown, room int) (fitting [][]byte, left int) {
	for _, passes := range []bool{false, true} {
		for i, e := range entries {
			if (all[parts[i]].state == health.Pass) != passes {
				continue
			}
			if len(e)+1 > room {
				left++
				continue
			}
			room -= len(e) + 1
			fitting = append(fitting, e)
		}
	}
	return fitting, left
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("public: a string is not encoded: " + err.Error())
	}
	return append(b, quoted...)
}

// renderText makes one line, the one word first.
func renderText(s shown, _ []shown) *page {
	return newPage(s.code(), typeText, []byte(s.summary()+" status="+s.status()+" up="+strconv.FormatBool(s.up)+"\n"))
}

// renderXML makes the answer to Pingdom's HTTP custom check. Any status but OK counts
// as down. The response time is required, has to be positive, and would be shown
// instead of the one that Pingdom measures; it says nothing here.
func renderXML(s shown, _ []shown) *page {
	status := "OK"
	if !s.up {
		status = s.summary()
	}
	return newPage(s.code(), typeXML, []byte(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		"<pingdom_http_custom_check><status>"+status+"</status><response_time>1.000</response_time></pingdom_http_custom_check>\n"))
}
