package statuspage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"strings"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

const (
	typeHTML = "text/html; charset=utf-8"
	typeJSON = "application/json"
	typeRSS  = "application/rss+xml; charset=utf-8"
	typeSVG  = "image/svg+xml"
)

// asset is what is under one path. Immutable.
type asset struct {
	body        []byte
	contentType string
	etag        string
}

func newAsset(contentType string, body []byte) *asset {
	sum := sha256.Sum256(body)
	return &asset{body, contentType, `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// edition is everything as of one version and minute. What has been asked for is kept.
type edition struct {
	version uint64
	minute  int64 // since 1970
	stale   bool
	view    *view
	assets  map[string]*asset
}

// renderer makes assets of views. Immutable.
type renderer struct {
	title, home, intro, url string
	pages                   *template.Template
	css                     template.CSS
	policy                  string
}

func newRenderer(o Options) *renderer {
	r := &renderer{title: o.Title, home: o.Home, intro: o.Intro, url: o.URL, css: makeCSS(pageCSS)}
	r.pages = template.Must(template.New("page").Funcs(template.FuncMap{"symbol": symbol}).Parse(pageHTML))
	sum := sha256.Sum256([]byte(r.css))
	r.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return r
}

// paths returns the paths of all assets of v, without the slash at the beginning.
func paths(v *view) []string {
	all := []string{"status.html", "status.json", "status.rss", "status.svg", "status-icon.svg", "status/incidents.html"}
	for _, s := range v.flat {
		all = append(all, "status/"+s.slug+".svg")
	}
	for _, in := range v.incidents() {
		all = append(all, incidentPath(in))
	}
	return all
}

func (v *view) incidents() []*Incident {
	return append(v.ongoing[:len(v.ongoing):len(v.ongoing)], v.past...)
}

func incidentPath(in *Incident) string { return "status/incidents/" + in.Name + ".html" }

// render returns the asset at path, or nil if there is none.
func (r *renderer) render(v *view, path string) (*asset, error) {
	switch path {
	case "status.html":
		return r.html("index", r.index(v))
	case "status.json":
		return r.json(v)
	case "status.rss":
		return r.rss(v)
	case "status.svg":
		return newAsset(typeSVG, badge("status", v.state)), nil
	case "status-icon.svg":
		return newAsset(typeSVG, icon(v.state)), nil
	case "status/incidents.html":
		return r.html("list", r.list(v))
	}
	name, isBadge := strings.CutPrefix(path, "status/")
	if name, ok := strings.CutSuffix(name, ".svg"); isBadge && ok {
		for _, s := range v.flat {
			if s.slug == name {
				return newAsset(typeSVG, badge(s.name, s.state)), nil
			}
		}
	}
	for _, in := range v.incidents() {
		if incidentPath(in) == path {
			return r.html("single", r.single(v, in))
		}
	}
	return nil, nil
}

func (r *renderer) html(name string, data any) (*asset, error) {
	var b bytes.Buffer
	if err := r.pages.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return newAsset(typeHTML, b.Bytes()), nil
}

// headline is the one sentence on the page. "All systems are operational" is there
// only if it is true.
func headline(v *view) string {
	switch v.state {
	case health.Pass:
		return "All systems are operational"
	case health.Warn:
		return "Some systems are not fully operational"
	case health.Fail:
		return "There is an outage"
	case health.Maintenance:
		return "Maintenance is under way"
	case health.Starting:
		return "Systems are starting"
	}
	return "The current state is not known"
}

// label is the state of a service in a word or two.
func label(s health.State) string {
	switch s {
	case health.Pass:
		return "Operational"
	case health.Warn:
		return "Degraded"
	case health.Fail:
		return "Outage"
	case health.Maintenance:
		return "Maintenance"
	case health.Starting:
		return "Starting"
	}
	return "Unknown"
}

// class is the name of the state in the style sheet.
func class(s health.State) string {
	if s == health.Starting {
		return health.Unknown.String()
	}
	return s.String()
}

// uptime returns the uptime in percent, rounded down so that 100% means it. It is ""
// if nothing is known.
func uptime(c history.Counts) string {
	u, ok := c.Uptime()
	if !ok {
		return ""
	}
	if u == 1 {
		return "100%"
	}
	hundredths := int(u * 10000)
	return fmt.Sprintf("%d.%02d%%", hundredths/100, hundredths%100)
}
