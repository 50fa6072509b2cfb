package rsyslog

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// page is the proposal as it is written.
type page struct{ strings.Builder }

func (w *page) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// note writes comment lines.
func (w *page) note(format string, args ...any) {
	w.line("# %s", oneLine(fmt.Sprintf(format, args...)))
}

// toml returns the proposal.
func (p *proposal) toml(files []string) string {
	w := new(page)
	w.note("Proposed by logship migrate rsyslog from %s.", strings.Join(files, ", "))
	w.note("Read each comment, then: logship check --config FILE. docs/migration.md has the way from here.")
	urls, same := p.urls()
	f := same[0]
	p.output(w, urls, &f)
	selected := want(f.place, f.filters)
	for _, other := range same[1:] {
		selected.or(want(other.place, other.filters))
	}
	p.journald(w, &selected)
	if len(p.files) > 0 {
		w.line("\n[input.file]")
		w.note("imfile of %s. The field application_name is the name of the file, not the Tag.", strings.Join(p.fileAt, ", "))
		w.line("paths = %s", quotes(p.files))
	}
	if len(p.listens) > 0 {
		w.line("")
		w.note("rsyslog receives syslog from other machines. Only one program can have a port: take the # away when rsyslog does not listen any more.")
		w.WriteString(strings.Join(p.listens, ""))
	}
	p.names(w, &f)
	p.rules(w, &selected)
	for _, filter := range selected.left {
		p.leave(f.place, "filter %s: everything is shipped; write a [[rule]] for what is not wanted (docs/rules.md)", filter)
	}
	w.line("")
	if len(p.left) == 0 {
		w.note("Everything that forwards was taken over.")
		return w.String()
	}
	w.note("Not taken over:")
	for _, left := range p.left {
		w.line("#   %s", left)
	}
	return w.String()
}

// output writes where to ship to.
func (p *proposal) output(w *page, urls []string, f *forward) {
	w.line("\n[output]")
	from := fmt.Sprintf("%v sent to %s, port %s, by %s", f.place, strings.Join(f.hosts, " and "), f.port, f.transport())
	if p.formats[f.template].gelf {
		w.note("%s, as GELF.", from)
		if f.udp {
			w.note("TCP instead, as UDP confirms nothing: the same port needs a GELF TCP input in Graylog.")
		}
	} else {
		w.note("%s, as syslog. logship speaks GELF: this is the port that a GELF TCP input has by default (docs/graylog.md).", from)
	}
	w.line("url = %s", quote(urls[0]))
	if len(urls) > 1 {
		w.note("The others were taken when the one before failed, or in turns; so they are here.")
		w.line("urls = %s", quotes(urls[1:]))
	}
	if f.disk {
		w.note("rsyslog's disk queue (%s) has no counterpart for local messages: what is not confirmed is read from the journal again.", cmp.Or(f.diskMax, "no limit"))
	}
	if f.tls {
		p.tls(w, f)
	}
}

func (p *proposal) tls(w *page, f *forward) {
	w.line("\n[output.tls]")
	if f.ca != "" {
		w.line("ca = %s", quote(f.ca))
	}
	if f.cert != "" && f.key != "" {
		w.note("The user of logship must be able to read the key; LoadCredential= in the unit and \"cred:name\" here is the better way.")
		w.line("cert = %s", quote(f.cert))
		w.line("key = %s", quote("file:"+f.key))
	}
	switch names := strings.Split(f.peer, ","); {
	case f.authMode == "" || f.authMode == "anon":
		w.note("rsyslog did not look at the receiver's certificate (anon). logship always does: ca must be right, and the name in the URL.")
	case f.authMode == "x509/name" && len(names) == 1 && names[0] != "" && !strings.Contains(f.peer, "*"):
		w.note("The name that rsyslog expected.")
		w.line("server_name = %s", quote(f.peer))
	case f.authMode == "x509/certvalid":
		w.note("rsyslog took any certificate of the authority; logship wants the name of the URL in it, or server_name.")
	default:
		p.leave(f.place, "peers of TLS (%s %s): logship checks authority and name", f.authMode, f.peer)
	}
}

// journald writes which of the local messages are shipped.
func (p *proposal) journald(w *page, selected *wanted) {
	w.line("\n[input.journald]")
	w.note("The journal has what rsyslog gets from /dev/log, the kernel and services, and tells the unit of each.")
	if len(selected.identifiers) > 0 {
		slices.Sort(selected.identifiers)
		w.note("Only these programs were forwarded. units = [\"…\"] would take what systemd says about a service, too.")
		w.line("identifiers = %s", quotes(slices.Compact(selected.identifiers)))
	}
	most, few := 0, []string{}
	for i, mask := range selected.masks {
		for n := range 8 {
			if mask&(1<<n) != 0 {
				most = max(most, n)
			}
		}
		if mask != 0 {
			few = append(few, "SYSLOG_FACILITY="+strconv.Itoa(i))
		}
	}
	if most < 7 {
		w.note("By the priority that the journal has. A Winston line on a service's standard output is \"info\" there whatever its own level.")
		w.line("priority = %s", quote(severities()[most]))
	}
	if len(few) <= 8 {
		w.note("Only these facilities were forwarded.")
		w.line("matches = %s", quotes(few))
	}
	switch {
	case len(selected.left) > 0:
		w.note("What rsyslog left out by a filter that logship does not know is shipped: see the end.")
	case most == 7 && len(few) > 8 && selected.identifiers == nil:
		w.note("Everything was forwarded, and is shipped.")
	}
	w.line("enabled = true")
}

// names writes the fields that a template of GELF gave to every message.
func (p *proposal) names(w *page, f *forward) {
	t := p.formats[f.template]
	if len(t.constants) > 0 {
		w.line("\n[fields]")
		w.note("Fixed fields of the template %s.", f.template)
		seen := map[string]bool{}
		for _, c := range t.constants {
			name := strings.ReplaceAll(c[0], ".", "_")
			if seen[name] {
				continue
			}
			seen[name] = true
			w.line("%s = %s", quote(name), quote(c[1]))
		}
	}
	// What logship calls the properties of rsyslog (docs/mapping.md, "From syslog").
	own := map[string]string{"programname": "application_name", "app-name": "application_name", "procid": "process_id",
		"syslogfacility": "syslog_facility", "syslogseverity-text": "level_name", "msgid": "msgid"}
	var renames []string
	seen := map[string]bool{}
	for _, c := range t.properties {
		switch name, ok := own[c[1]]; {
		case !ok:
			p.leave(f.place, "field %s of the template %s, %%%s%%: logship has none like it", c[0], f.template, c[1])
		case name != c[0] && !seen[name]:
			seen[name] = true
			renames = append(renames, name+" = "+quote(c[0]))
		}
	}
	if len(renames) > 0 {
		w.line("\n[[rule]]")
		w.note("The template %s had its own names; searches and dashboards know them.", f.template)
		w.line("name = \"names of the rsyslog template\"")
		w.line("action = \"rename\"")
		w.line("rename = { %s }", strings.Join(renames, ", "))
	}
}

// rules writes what is left out.
func (p *proposal) rules(w *page, selected *wanted) {
	for i, d := range append(p.drops, selected.drops...) {
		w.line("\n[[rule]]")
		w.note("%v kept these from being forwarded.", d.place)
		w.line("name = %s", quote(fmt.Sprintf("rsyslog drop %d", i+1)))
		if d.identifier != "" {
			w.line("match.identifier = %s", quote(d.identifier))
		}
		if d.message != "" {
			w.line("match.message = %s", quote(d.message))
		}
		w.line("action = \"drop\"")
	}
	var all uint8
	few := 0
	for _, mask := range selected.masks {
		all |= mask
		if mask != 0 {
			few++
		}
	}
	for i, mask := range selected.masks {
		if mask == all || facilities()[i] == "" || mask == 0 && few <= 8 {
			continue
		}
		n := bits.TrailingZeros8(^mask) // how many severities from 0 on
		if mask != upTo(n-1) {
			p.leave(p.forwards[0].place, "priorities of %s that are not \"this and worse\": everything is shipped", facilities()[i])
			continue
		}
		w.line("\n[[rule]]")
		w.note("The selector took less of the facility %s.", facilities()[i])
		w.line("name = %s", quote("rsyslog facility "+facilities()[i]))
		w.line("match.field = { %s }", facility(i))
		if mask != 0 {
			w.line("match.level_over = %s", quote(severities()[n-1]))
		}
		w.line("action = \"drop\"")
	}
}
