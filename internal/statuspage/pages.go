package statuspage

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// The types here are what page.html shows.

type layout struct {
	Title, Home, Intro, Heading string
	CSS                         template.CSS
	Root                        string // from the page to where status.html is
	Class                       string // of the state
	Updated                     when
}

type when struct{ Machine, Text string }

// dayText and timeText are how days and times are written, in UTC.
const (
	dayText    = "2 January 2006"
	minuteText = "2 January 2006, 15:04"
)

func moment(t time.Time) when {
	if t.IsZero() {
		return when{}
	}
	return when{t.UTC().Format(time.RFC3339), t.UTC().Format(minuteText) + " UTC"}
}

// later is like moment, without the day if that is the one of from.
func later(t, from time.Time) when {
	w := moment(t)
	if !t.IsZero() && history.DayOf(t) == history.DayOf(from) {
		w.Text = t.UTC().Format("15:04") + " UTC"
	}
	return w
}

type indexPage struct {
	layout
	Since    when
	Uptime   string // of the machine
	Days     int
	Services []serviceRow
	Ongoing  []note
	Past     []note
	More     bool // there are more of the past
}

type serviceRow struct {
	Name, Slug, Class, Label string
	Since                    when // zero while it is operational
	Bars                     []bar
	Width                    int
	Uptime, Summary          string
	Disrupted                []disruption
	Parts                    []serviceRow
}

// bar is one day. Its height says how good the day was, for those who do not see colours.
type bar struct {
	X, Y, Height int
	Class, Title string
}

type disruption struct {
	Day  when
	Text string
}

type note struct {
	Title, Path, Kind, Class, State string
	Started, Ended                  when
	Duration                        string
	Affects                         []string
	Body                            template.HTML
}

type listPage struct {
	layout
	Ongoing, Past []note
}

type singlePage struct {
	layout
	Note note
}

func (r *renderer) layout(v *view, root, heading string) layout {
	return layout{Title: r.title, Home: r.home, Intro: r.intro, Heading: heading, CSS: r.css, Root: root,
		Class: class(v.state), Updated: moment(v.at)}
}

// shownPast is how many past incidents the page itself has.
const shownPast = 5

func (r *renderer) index(v *view) indexPage {
	page := indexPage{layout: r.layout(v, "", headline(v)), Uptime: uptime(v.total), Days: window}
	if v.state != health.Pass && !v.at.IsZero() {
		page.Since = later(v.since, v.now)
	}
	for _, s := range v.services {
		page.Services = append(page.Services, row(s, v.now))
	}
	for _, in := range v.ongoing {
		page.Ongoing = append(page.Ongoing, newNote(in, v.now))
	}
	for i, in := range v.past {
		if page.More = i == shownPast; page.More {
			break
		}
		page.Past = append(page.Past, newNote(in, v.now))
	}
	return page
}

func (r *renderer) list(v *view) listPage {
	page := listPage{layout: r.layout(v, "../", "Incidents")}
	for _, in := range v.ongoing {
		page.Ongoing = append(page.Ongoing, newNote(in, v.now))
	}
	for _, in := range v.past {
		page.Past = append(page.Past, newNote(in, v.now))
	}
	return page
}

func (r *renderer) single(v *view, in *Incident) singlePage {
	return singlePage{r.layout(v, "../../", in.Title), newNote(in, v.now)}
}

// A bar is barWidth wide with a gap of barGap, and at most barHeight high, in units of
// the drawing.
const (
	barWidth  = 4
	barGap    = 2
	barHeight = 36
)

func row(s *service, now time.Time) serviceRow {
	result := serviceRow{Name: s.name, Slug: s.slug, Class: class(s.state), Label: label(s.state),
		Uptime: uptime(s.total), Width: len(s.days)*(barWidth+barGap) - barGap}
	if s.state != health.Pass {
		result.Since = later(s.since, now)
	}
	for i, d := range s.days {
		kind, height := grade(d.counts)
		text := describeDay(d.counts)
		day := d.day.Time().Format(dayText)
		result.Bars = append(result.Bars, bar{i * (barWidth + barGap), barHeight - height, height, kind, day + ": " + text})
		if d.counts[history.Down]+d.counts[history.Unknown]+d.counts[history.Degraded] > 0 {
			when := when{d.day.Time().Format(time.DateOnly), day}
			result.Disrupted = append([]disruption{{when, text}}, result.Disrupted...)
		}
	}
	result.Summary = summary(result)
	for _, p := range s.parts {
		result.Parts = append(result.Parts, row(p, now))
	}
	return result
}

func summary(r serviceRow) string {
	if r.Uptime == "" {
		return "no history yet"
	}
	days := plural(len(r.Disrupted), "day") + " with disruptions"
	if len(r.Disrupted) == 0 {
		days = "no disruptions"
	}
	return r.Uptime + " uptime in the last 90 days, " + days
}

// grade returns the class of a day and how high its bar is.
func grade(c history.Counts) (kind string, height int) {
	bad := c[history.Down] + c[history.Unknown]
	switch {
	case bad >= 30:
		return "fail", barHeight * 2 / 5
	case bad > 0:
		return "minor", barHeight * 3 / 5
	case c[history.Degraded] > 0:
		return "warn", barHeight * 4 / 5
	case c[history.Up] > 0:
		return "pass", barHeight
	case c[history.Maintenance] > 0:
		return "maintenance", barHeight
	}
	return "unknown", barHeight / 6
}

// describeDay says what a day was in words.
func describeDay(c history.Counts) string {
	var parts []string
	for _, part := range []struct {
		minutes int
		text    string
	}{
		{c[history.Down], "down"}, {c[history.Unknown], "unknown"}, {c[history.Degraded], "degraded"}, {c[history.Maintenance], "in maintenance"},
	} {
		if part.minutes > 0 {
			parts = append(parts, minutes(part.minutes)+" "+part.text)
		}
	}
	u := uptime(c)
	switch {
	case u == "" && len(parts) == 0:
		return "no data"
	case len(parts) == 0:
		return "no disruptions"
	case u == "":
		return strings.Join(parts, ", ")
	}
	return strings.Join(parts, ", ") + "; " + u + " uptime"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// minutes says how long n minutes are.
func minutes(n int) string {
	if n < 60 {
		return plural(n, "minute")
	}
	if days := n / (24 * 60); days > 1 {
		return plural(days, "day") + hoursAfter(n%(24*60))
	}
	text := plural(n/60, "hour")
	if n%60 > 0 {
		text += " " + plural(n%60, "minute")
	}
	return text
}

func hoursAfter(n int) string {
	if n < 60 {
		return ""
	}
	return " " + plural(n/60, "hour")
}

func newNote(in *Incident, now time.Time) note {
	n := note{Title: in.Title, Path: incidentPath(in), Started: moment(in.Started), Ended: later(in.Ended, in.Started),
		Affects: in.Affects, Body: in.Body}
	n.Kind, n.Class = kindText(in.Kind)
	switch {
	case in.Started.After(now):
		n.State = "Planned"
	case in.Ongoing(now):
		n.State = "Ongoing"
	case in.Kind == Works:
		n.State = "Done"
	default:
		n.State = "Resolved"
	}
	if d := int(in.Ended.Sub(in.Started) / time.Minute); d > 0 {
		n.Duration = minutes(d)
	}
	return n
}

func kindText(k Kind) (text, class string) {
	switch k {
	case Degradation:
		return "Degradation", "warn"
	case Works:
		return "Maintenance", "maintenance"
	case Notice:
		return "Notice", "unknown"
	}
	return "Outage", "fail"
}
