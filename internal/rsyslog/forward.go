package rsyslog

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// forward is an action that sends messages to another machine (module omfwd).
type forward struct {
	place
	hosts    []string
	port     string
	udp, tls bool
	// What the peer of TLS is checked by, and the files; "" where rsyslog has its defaults.
	authMode, peer, ca, cert, key string
	template                      string
	backup                        bool // only while the one before it fails
	disk                          bool // its queue goes to disk
	diskMax                       string
	filters                       []string
}

// defaults are what global settings say for every action.
type defaults struct{ driver, ca, cert, key string }

// set takes a global setting by its legacy name or by that of global().
func (d *defaults) set(name, value string) {
	switch strings.TrimPrefix(name, "default") {
	case "netstreamdriver":
		d.driver = value
	case "netstreamdrivercafile":
		d.ca = value
	case "netstreamdrivercertfile":
		d.cert = value
	case "netstreamdriverkeyfile":
		d.key = value
	}
}

// legacyForward reads @host, @@host:port;template and @@(options)[host]:port. What
// directives said before it is in before.
func legacyForward(s *statement, before map[string]string, d defaults) (forward, bool) {
	m := regexp.MustCompile(`^(@@?)(?:\([^)]*\))?(\[[^\]]+\]|[^\s:;\[]+)(?::(\w+))?\s*(?:;\s*(\S+))?$`).FindStringSubmatch(s.get(""))
	if m == nil {
		return forward{}, false
	}
	f := forward{place: s.place, hosts: []string{strings.Trim(m[2], "[]")}, port: cmp.Or(m[3], "514"), udp: m[1] == "@",
		template: cmp.Or(m[4], before["actionforwarddefaulttemplate"]), filters: s.filters,
		backup: isOn(before["actionexeconlywhenpreviousissuspended"]),
		disk:   before["actionqueuefilename"] != "", diskMax: before["actionqueuemaxdiskspace"],
		authMode: before["actionsendstreamdriverauthmode"], peer: before["actionsendstreamdriverpermittedpeer"]}
	f.secure(before["actionsendstreamdrivermode"], before["actionsendstreamdriver"], d)
	return f, true
}

// objectForward reads action(type="omfwd" …).
func objectForward(s *statement, d defaults) forward {
	f := forward{place: s.place, hosts: s.params["target"], port: cmp.Or(s.get("port"), "514"),
		udp: !strings.EqualFold(s.get("protocol"), "tcp"), template: s.get("template"), filters: s.filters,
		backup: isOn(s.get("action.execonlywhenpreviousissuspended")),
		disk:   s.get("queue.filename") != "", diskMax: s.get("queue.maxdiskspace"),
		authMode: s.get("streamdriverauthmode"), peer: strings.Join(s.params["streamdriverpermittedpeers"], ",")}
	d.ca, d.cert, d.key = cmp.Or(s.get("streamdriver.cafile"), d.ca), cmp.Or(s.get("streamdriver.certfile"), d.cert), cmp.Or(s.get("streamdriver.keyfile"), d.key)
	f.secure(s.get("streamdrivermode"), s.get("streamdriver"), d)
	return f
}

// secure notes TLS: a driver other than ptcp, in mode 1 (rsyslog documentation, "omfwd,
// StreamDriverMode").
func (f *forward) secure(mode, driver string, d defaults) {
	driver = cmp.Or(driver, d.driver, "ptcp")
	if f.tls = !f.udp && mode == "1" && driver != "ptcp"; f.tls {
		f.ca, f.cert, f.key = d.ca, d.cert, d.key
	}
}

func isOn(value string) bool {
	return slices.Contains([]string{"on", "yes", "true", "1"}, strings.ToLower(value))
}

// transport returns how it sends, for people.
func (f *forward) transport() string {
	switch {
	case f.udp:
		return "UDP"
	case f.tls:
		return "TLS"
	}
	return "TCP"
}

// scheme returns that of the URL which logship sends GELF to instead.
func (f *forward) scheme() string {
	if f.tls {
		return "gelf+tls"
	}
	return "gelf+tcp"
}

// format is a template, as far as logship has to know it.
type format struct {
	gelf bool
	// constants are fields with a fixed text, properties those that have a property of
	// the message, by their names without the underscore.
	constants, properties [][2]string
}

// formats returns the templates of a configuration by their names.
func formats(all []statement) map[string]format {
	found := map[string]format{}
	for i := range all {
		s := &all[i]
		switch {
		case s.kind == "template":
			found[s.get("name")] = readFormat(s.get("string") + listText(s.body))
		case s.kind == "directive" && s.name == "template":
			name, text, _ := strings.Cut(s.get(""), ",")
			found[strings.TrimSpace(name)] = readFormat(strings.ReplaceAll(text, `\"`, `"`))
		}
	}
	return found
}

// listText returns a list template as the string template that it is the same as.
func listText(body []statement) string {
	var b strings.Builder
	for i := range body {
		s := &body[i]
		text := s.get("value")
		if s.kind == "property" {
			text = "%" + s.get("name") + "%"
		}
		if name := s.get("outname"); name != "" && s.get("format") == "jsonf" {
			text = `"` + name + `":"` + text + `"`
		}
		b.WriteString(text)
	}
	return b.String()
}

// readFormat finds the fields of a template that writes GELF.
func readFormat(text string) format {
	f := format{gelf: strings.Contains(text, "short_message")}
	if !f.gelf {
		return f
	}
	for _, m := range regexp.MustCompile(`"_([\w.-]+)"\s*:\s*"?(?:%([\w$!.-]+)[^%]*%|([^"%,}]*))`).FindAllStringSubmatch(text, -1) {
		if m[2] != "" {
			f.properties = append(f.properties, [2]string{m[1], strings.ToLower(m[2])})
		} else if m[3] != "" {
			f.constants = append(f.constants, [2]string{m[1], m[3]})
		}
	}
	return f
}
