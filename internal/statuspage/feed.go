package statuspage

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// document is status.json. Fields are added, never changed.
type document struct {
	// Version is that of the format, 1.
	Version int `json:"version"`
	// Title is whose status it is.
	Title string `json:"title"`
	// UpdatedAt is the time of the last judgement; null before the first. One that is old
	// means that nobody watches.
	UpdatedAt *time.Time `json:"updated_at"`
	// State is "pass", "warn", "fail", "unknown", "starting" or "maintenance".
	State health.State `json:"state"`
	// Headline is the sentence on the page.
	Headline string `json:"headline"`
	// Uptime is that of everything together.
	Uptime    uptimes            `json:"uptime"`
	Services  []serviceDocument  `json:"services"`
	Incidents []incidentDocument `json:"incidents"`
}

type serviceDocument struct {
	Name string `json:"name"`
	// Slug is the name as it is in addresses: /health/SLUG, /status/SLUG.svg.
	Slug   string            `json:"slug"`
	State  health.State      `json:"state"`
	Uptime uptimes           `json:"uptime"`
	Days   []dayDocument     `json:"days"`
	Parts  []serviceDocument `json:"parts,omitempty"`
}

// uptimes are shares from 0 to 1, of the last 7, 30 and 90 days. What is not known is
// null.
type uptimes struct {
	Days7  *float64 `json:"days_7"`
	Days30 *float64 `json:"days_30"`
	Days90 *float64 `json:"days_90"`
}

// dayDocument is a day in UTC, in minutes. Days of which nothing is known are left out.
type dayDocument struct {
	Date        string `json:"date"`
	Up          int    `json:"up"`
	Degraded    int    `json:"degraded,omitempty"`
	Down        int    `json:"down,omitempty"`
	Unknown     int    `json:"unknown,omitempty"`
	Maintenance int    `json:"maintenance,omitempty"`
}

type incidentDocument struct {
	Name    string     `json:"name"`
	Title   string     `json:"title"`
	Kind    Kind       `json:"kind"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended"`
	Affects []string   `json:"affects"`
	HTML    string     `json:"html"`
}

func (r *renderer) json(v *view) (*asset, error) {
	d := document{Version: 1, Title: r.title, State: v.state, Headline: headline(v),
		Uptime: uptimesOf(v.days), Services: documents(v.services), Incidents: []incidentDocument{}}
	if !v.at.IsZero() {
		at := v.at.UTC().Truncate(time.Second)
		d.UpdatedAt = &at
	}
	for _, in := range v.incidents() {
		one := incidentDocument{Name: in.Name, Title: in.Title, Kind: in.Kind, Started: in.Started,
			Affects: append([]string{}, in.Affects...), HTML: string(in.Body)}
		if !in.Ended.IsZero() {
			one.Ended = &in.Ended
		}
		d.Incidents = append(d.Incidents, one)
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("render status.json: %w", err)
	}
	return newAsset(typeJSON, append(b, '\n')), nil
}

func documents(services []*service) []serviceDocument {
	all := []serviceDocument{}
	for _, s := range services {
		d := serviceDocument{Name: s.name, Slug: s.slug, State: s.state, Uptime: uptimesOf(s.days), Days: []dayDocument{}}
		for _, day := range s.days {
			if c := day.counts; c.Add(history.Counts{history.None: -c[history.None]}) != (history.Counts{}) {
				d.Days = append(d.Days, dayDocument{day.day.Time().Format(time.DateOnly),
					c[history.Up], c[history.Degraded], c[history.Down], c[history.Unknown], c[history.Maintenance]})
			}
		}
		if len(s.parts) > 0 {
			d.Parts = documents(s.parts)
		}
		all = append(all, d)
	}
	return all
}

func uptimesOf(days []dayView) uptimes {
	return uptimes{since(days, 7), since(days, 30), since(days, 90)}
}

func since(days []dayView, n int) *float64 {
	var total history.Counts
	for _, d := range days[max(0, len(days)-n):] {
		total = total.Add(d.counts)
	}
	if u, ok := total.Uptime(); ok {
		return share(u)
	}
	return nil
}

// share rounds down to what minutes can tell: 90 days are 129,600.
func share(u float64) *float64 {
	u = math.Floor(u*1e6) / 1e6
	return &u
}

// RSS 2.0, www.rssboard.org/rss-specification.
type rssFeed struct {
	XMLName xml.Name   `xml:"rss"`
	Version string     `xml:"version,attr"`
	Atom    string     `xml:"xmlns:atom,attr"`
	Channel rssChannel `xml:"channel"`
}

type rssChannel struct {
	Title         string    `xml:"title"`
	Link          string    `xml:"link"`
	Description   string    `xml:"description"`
	Language      string    `xml:"language"`
	LastBuildDate string    `xml:"lastBuildDate,omitempty"`
	Self          rssSelf   `xml:"atom:link"`
	Items         []rssItem `xml:"item"`
}

type rssSelf struct {
	Href string `xml:"href,attr"`
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
}

type rssItem struct {
	Title       string  `xml:"title"`
	Link        string  `xml:"link"`
	GUID        rssGUID `xml:"guid"`
	PubDate     string  `xml:"pubDate"`
	Category    string  `xml:"category"`
	Description string  `xml:"description"`
}

type rssGUID struct {
	IsPermaLink bool   `xml:"isPermaLink,attr"`
	Text        string `xml:",chardata"`
}

// rss has an item for each incident, and another one when it has ended: readers show
// what is new, not what has changed.
func (r *renderer) rss(v *view) (*asset, error) {
	base := strings.TrimSuffix(strings.TrimSuffix(r.url, "/"), "/status")
	c := rssChannel{Title: r.title + ": incidents", Link: r.url, Description: "Incidents and maintenance of " + r.title + ".", Language: "en",
		Self: rssSelf{base + "/status.rss", "self", "application/rss+xml"}}
	var last time.Time
	for _, in := range v.incidents() {
		kind, _ := kindText(in.Kind)
		item := rssItem{Title: kind + ": " + in.Title, Link: base + "/" + incidentPath(in), Category: kind, Description: string(in.Body)}
		if !in.Ongoing(v.now) {
			done := item
			done.Title = newNote(in, v.now).State + ": " + in.Title
			done.GUID.Text = in.Name + "-ended"
			done.PubDate = in.Ended.Format(time.RFC1123Z)
			c.Items = append(c.Items, done)
		}
		item.GUID.Text = in.Name
		item.PubDate = in.Started.Format(time.RFC1123Z)
		c.Items = append(c.Items, item)
		if in.Updated().After(last) && !in.Updated().After(v.now) {
			last = in.Updated()
		}
	}
	if !last.IsZero() {
		c.LastBuildDate = last.Format(time.RFC1123Z)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	if err := e.Encode(rssFeed{Version: "2.0", Atom: "http://www.w3.org/2005/Atom", Channel: c}); err != nil {
		return nil, fmt.Errorf("render status.rss: %w", err)
	}
	b.WriteByte('\n')
	return newAsset(typeRSS, b.Bytes()), nil
}
