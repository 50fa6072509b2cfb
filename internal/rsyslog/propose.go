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
}

// Propose returns a configuration of logship, in TOML, that does what the forward rules
// of rsyslog do: with a comment at each decision, and at the end, in comments too, a
// list of what was not taken over and why. files are absolute paths in root, such as
// /etc/rsyslog.conf; what they include is read too. The error is ErrNoForward, or says
// which file cannot be read.
func Propose(root fs.FS, files []string) (string, error) {
	var all []statement
	for _, file := range files {
		found, err := read(root, file, 0)
		if err != nil {
			return "", err
		}
		all = append(all, found...)
	}
	p := proposal{formats: formats(all)}
	p.collect(all)
	if len(p.forwards) == 0 {
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
		case "global":
			for name := range s.params {
				d.set(name, s.get(name))
			}
		case "legacy":
			p.legacy(s, before, d)
			maps.DeleteFunc(before, func(name, _ string) bool { return ends(name) })
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

// ends reports whether a directive is for one action only. The others hold until they
// are set anew, as they do in rsyslog.
func ends(directive string) bool {
	return strings.HasPrefix(directive, "actionqueue") || strings.HasPrefix(directive, "actionsendstreamdriver") && directive != "actionsendstreamdrivermode"
}

// directive takes a legacy $Name value.
func (p *proposal) directive(s *statement, d *defaults, before map[string]string) {
	value := s.get("")
	switch s.name {
	case "udpserverrun":
		p.listen(s.place, "udp", "", value)
	case "inputtcpserverrun", "inputptcpserverrun":
		p.listen(s.place, "tcp", "", value)
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

// legacy takes the action of a sysklogd line. What stays on this machine is no matter.
func (p *proposal) legacy(s *statement, before map[string]string, d defaults) {
	text := s.get("")
	if f, ok := legacyForward(s, before, d); ok {
		p.forwards = append(p.forwards, f)
		return
	}
	module, _, _ := strings.Cut(strings.TrimPrefix(text, ":"), ":")
	switch {
	case strings.HasPrefix(text, "@"):
		p.leave(s.place, "%s: not understood", text)
	case strings.HasPrefix(text, ":") && module != "omusrmsg" && module != "omfile":
		p.leave(s.place, "%s: leave this to rsyslog", text)
	}
}

// action takes action(…).
func (p *proposal) action(s *statement, d defaults) {
	switch kind := s.get("type"); {
	case kind == "omfwd" && len(s.params["target"]) > 0:
		p.forwards = append(p.forwards, objectForward(s, d))
	case !slices.Contains([]string{"omfile", "omusrmsg", "ompipe", "omjournal"}, kind):
		p.leave(s.place, "action of type %s: leave this to rsyslog", cmp.Or(kind, "?"))
	}
}

// input takes input(…). The local log socket and the kernel are in the journal.
func (p *proposal) input(s *statement) {
	switch kind := s.get("type"); kind {
	case "imudp":
		p.listen(s.place, "udp", s.get("address"), s.get("port"))
	case "imtcp", "imptcp":
		if mode := s.get("streamdriver.mode"); mode == "1" {
			p.leave(s.place, "TLS of this input: see docs/sources.md for certificates of [[input.syslog]]")
		}
		p.listen(s.place, "tcp", s.get("address"), s.get("port"))
	case "imfile":
		p.files, p.fileAt = append(p.files, s.get("file")), append(p.fileAt, s.String())
	case "imuxsock", "imklog", "imjournal", "imkmsg", "immark", "impstats":
	default:
		p.leave(s.place, "input of type %s: logship has none like it", cmp.Or(kind, "?"))
	}
}

func (p *proposal) listen(at place, transport, address, port string) {
	p.listens = append(p.listens, fmt.Sprintf("# [[input.syslog]]  # %v\n# listen = %s\n", at,
		quote(transport+"://"+net.JoinHostPort(cmp.Or(address, "0.0.0.0"), cmp.Or(port, "514")))))
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
			if u := f.url(host, p.port(&f)); !slices.Contains(urls, u) {
				urls = append(urls, u)
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
