package rsyslog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// gelfPort is the port of Graylog's GELF inputs if nobody has chosen another.
const gelfPort = "12201"

// ErrNoForward means that a configuration forwards nothing.
var ErrNoForward = errors.New("no rule forwards messages to another machine")

// proposal is what becomes of a configuration.
type proposal struct {
	forwards []forward
	files    []string // of imfile
	fileAt   []string
	listens  []string // lines of TOML
	drops    []drop
	formats  map[string]format
	left     []string
	// What $UDPServerAddress and the settings of modules say for the inputs behind them.
	udpAddress string
	overTLS    map[string]bool
}

// Propose returns a configuration of logship, in TOML, that does what the forward rules
// of rsyslog do: with a comment at each decision, and at the end, in comments too, a
// list of what was not taken over and why. files are absolute paths in root, such as
// /etc/rsyslog.conf; what they include is read too. The error wraps ErrNoForward, with
// what was not taken over, or says which file cannot be read.
func Propose(root fs.FS, files []string) (string, error) {
	var all []statement
	for _, file := range files {
		found, err := read(root, file, 0)
		if err != nil {
			return "", err
		}
		all = append(all, found...)
	}
	rulesets(all)
	p := proposal{formats: formats(all), overTLS: map[string]bool{}}
	p.collect(all)
	if len(p.forwards) == 0 {
		if len(p.left) > 0 {
			return "", fmt.Errorf("%w; not taken over: %s", ErrNoForward, strings.Join(p.left, "; "))
		}
		return "", ErrNoForward
	}
	return p.toml(files), nil
}

func (p *proposal) leave(at place, format string, args ...any) {
	p.left = append(p.left, fmt.Sprintf("%v: %s", at, oneLine(fmt.Sprintf(format, args...))))
}

// collect looks at each statement in its turn.
func (p *proposal) collect(all []statement) {
	var d defaults
	before := map[string]string{} // legacy directives for the next action
	for i := range all {
		s := &all[i]
		switch s.kind {
		case "directive":
			p.directive(s, &d, before)
		case "module":
			p.overTLS[s.get("load")] = s.get("streamdriver.mode") == "1"
		case "global":
			for name := range s.params {
				d.set(name, s.get(name))
			}
		case "legacy":
			isForward := p.legacy(s, before, d)
			maps.DeleteFunc(before, func(name, _ string) bool { return ends(name, isForward) })
		case "action":
			p.action(s, d)
		case "input":
			p.input(s)
		case "stop":
			p.stop(s)
		case "set", "unset", "foreach", "call_indirect", "unknown":
			p.leave(s.place, "%s: not understood", s.get(""))
		}
	}
}

// rulesets puts rules behind $RuleSet into that ruleset, and gives those of a ruleset that
// one place calls the filters of that place.
func rulesets(all []statement) {
	const ruleset = "ruleset "
	calls, current := map[string][][]string{}, ""
	for i := range all {
		s := &all[i]
		inside := len(s.filters) > 0 && strings.HasPrefix(s.filters[0], ruleset)
		switch {
		case s.kind == "directive" && s.name == "ruleset":
			if current = ruleset + s.get(""); s.get("") == "RSYSLOG_DefaultRuleset" {
				current = ""
			}
		case current != "" && !inside:
			s.filters = slices.Concat([]string{current}, s.filters)
		}
		if name, ok := strings.CutPrefix(s.get(""), "call "); ok && s.kind == "call" {
			calls[ruleset+strings.TrimSpace(name)] = append(calls[ruleset+strings.TrimSpace(name)], s.filters)
		}
	}
	for i := range all {
		if f := all[i].filters; len(f) > 0 && len(calls[f[0]]) == 1 {
			all[i].filters = slices.Concat(calls[f[0]][0], f[1:])
		}
	}
}

// ends reports whether a directive is for one action only: of a queue for the next, of a
// driver for the next that forwards. The others hold until they are set anew, as they do
// in rsyslog.
func ends(directive string, isForward bool) bool {
	return strings.HasPrefix(directive, "actionqueue") ||
		isForward && strings.HasPrefix(directive, "actionsendstreamdriver") && directive != "actionsendstreamdrivermode"
}

// directive takes a legacy $Name value.
func (p *proposal) directive(s *statement, d *defaults, before map[string]string) {
	value := s.get("")
	switch s.name {
	case "udpserveraddress":
		p.udpAddress = strings.TrimPrefix(value, "*")
	case "udpserverrun":
		p.listen(s.place, "udp", p.udpAddress, value)
	case "inputtcpserverstreamdrivermode":
		p.overTLS["imtcp"] = value == "1"
	case "inputtcpserverrun":
		p.listen(s.place, p.stream("imtcp", ""), "", value)
	case "inputptcpserverrun":
		p.listen(s.place, "tcp", "", value)
	case "addunixlistensocket":
		p.listenAt(s.place, "unixgram:"+value)
	case "inputfilename":
		p.files, p.fileAt = append(p.files, value), append(p.fileAt, s.String())
	default:
		if strings.HasPrefix(s.name, "default") {
			d.set(s.name, value)
		}
		if strings.HasPrefix(s.name, "action") {
			before[s.name] = value
		}
	}
}

// legacy takes the action of a sysklogd line, and reports whether it forwards. What stays
// on this machine is no matter.
func (p *proposal) legacy(s *statement, before map[string]string, d defaults) bool {
	text := s.get("")
	if f, ok := legacyForward(s, before, d); ok {
		p.forwards = append(p.forwards, f)
		return true
	}
	module, _, _ := strings.Cut(strings.TrimPrefix(text, ":"), ":")
	switch {
	case strings.HasPrefix(text, "@"):
		p.leave(s.place, "%s: not understood", text)
	case strings.HasPrefix(text, ":") && module != "omusrmsg" && module != "omfile":
		p.leave(s.place, "%s: leave this to rsyslog", text)
	}
	return false
}

// action takes action(…).
func (p *proposal) action(s *statement, d defaults) {
	switch kind := s.get("type"); {
	case kind == "omfwd" && len(s.params["target"]) > 0 && !slices.ContainsFunc(s.params["target"], func(host string) bool { return !isHost(host) }):
		p.forwards = append(p.forwards, objectForward(s, d))
	case kind == "omfwd":
		p.leave(s.place, "forward to %q: not understood", strings.Join(s.params["target"], " "))
	case kind == "mmjsonparse": // logship finds JSON by itself
	case kind == "omkafka" || kind == "omrabbitmq" || kind == "omamqp1":
		p.leave(s.place, "action of type %s: logship can send there, see docs/brokers.md", kind)
	case !slices.Contains([]string{"omfile", "omusrmsg", "ompipe", "omjournal"}, kind):
		p.leave(s.place, "action of type %s: leave this to rsyslog", cmp.Or(kind, "?"))
	}
}

// isHost reports whether s can be a name or an address, and is no expression.
func isHost(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && r != ':' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}

// input takes input(…). The local log socket and the kernel are in the journal.
func (p *proposal) input(s *statement) {
	switch kind := s.get("type"); kind {
	case "imudp":
		p.listen(s.place, "udp", s.get("address"), s.params["port"]...)
	case "imtcp":
		p.listen(s.place, p.stream(kind, s.get("streamdriver.mode")), s.get("address"), s.params["port"]...)
	case "imptcp":
		if path := s.get("path"); path != "" {
			p.listenAt(s.place, "unix:"+path)
			return
		}
		p.listen(s.place, "tcp", s.get("address"), s.params["port"]...)
	case "imuxsock":
		if path := s.get("socket"); path != "" {
			p.listenAt(s.place, "unixgram:"+path)
		}
	case "imfile":
		p.files, p.fileAt = append(p.files, s.get("file")), append(p.fileAt, s.String())
		if s.get("startmsg.regex")+s.get("readmode") != "" {
			p.leave(s.place, "records of several lines: logship joins the lines of a stack trace, and no others (parse.multiline)")
		}
	case "imklog", "imjournal", "imkmsg", "immark", "impstats":
	default:
		p.leave(s.place, "input of type %s: logship has none like it", cmp.Or(kind, "?"))
	}
}

// stream returns the transport of an input by TCP: what it says itself, else its module.
func (p *proposal) stream(module, mode string) string {
	if mode == "1" || mode == "" && p.overTLS[module] {
		return "tls"
	}
	return "tcp"
}

func (p *proposal) listen(at place, transport, address string, ports ...string) {
	for _, port := range ports {
		p.listenAt(at, transport+"://"+net.JoinHostPort(cmp.Or(address, "0.0.0.0"), port))
	}
	if transport == "tls" {
		p.leave(at, "certificate and key of this input: tls.cert and tls.key of [[input.syslog]] (docs/sources.md)")
	}
}

func (p *proposal) listenAt(at place, address string) {
	p.listens = append(p.listens, fmt.Sprintf("# [[input.syslog]]  # %v\n# listen = %s\n", at, quote(address)))
}

// stop takes what discards messages before they are forwarded.
func (p *proposal) stop(s *statement) {
	if len(p.forwards) > 0 {
		return
	}
	if drops, ok := stopped(s.place, s.filters); ok {
		p.drops = append(p.drops, drops...)
	} else {
		p.leave(s.place, "stop for %s: write a [[rule]] with action = \"drop\"", strings.Join(s.filters, ", "))
	}
}

// urls returns the receivers: of the first forward and of what stands in for it. The
// others are left.
func (p *proposal) urls() (urls []string, same []forward) {
	first := p.forwards[0]
	for i, f := range p.forwards {
		f.backup = f.backup && i > 0 // behind what is no forward
		isSame := slices.Equal(f.hosts, first.hosts) && f.port == first.port
		if !isSame && !f.backup {
			p.leave(f.place, "forward to %s: logship has one receiver; let that one pass it on, or leave this to rsyslog", strings.Join(f.hosts, ", "))
			continue
		}
		if !f.backup {
			same = append(same, f)
		}
		for _, host := range f.hosts {
			// One that is there with TLS as well as without stays as it is named first.
			if at := net.JoinHostPort(host, p.port(&f)); !slices.ContainsFunc(urls, func(u string) bool { return strings.HasSuffix(u, "//"+at) }) {
				urls = append(urls, f.scheme()+"://"+at)
			}
		}
	}
	return urls, same
}

// port returns the port of the GELF input to send to: rsyslog's if that is one.
func (p *proposal) port(f *forward) string {
	if p.formats[f.template].gelf {
		return f.port
	}
	return gelfPort
}

// quote returns s as a basic string of TOML, which JSON's strings are.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return strconv.Quote(s) // a string can be encoded
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`) // the one character that only TOML wants escaped
}

func quotes(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// oneLine returns s as it can stand in a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
}
