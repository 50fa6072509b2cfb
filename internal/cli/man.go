package cli

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// NewMan returns the hidden verb man of a program, which prints its manual page (section
// 8, man(7)), made of the help texts of its verbs. Its date is that of
// $SOURCE_DATE_EPOCH, in seconds since 1970: a package that is built twice is the same.
//
// Package doc of cobra is not used: it reads the texts as Markdown, which joins the lines
// of their tables, writes forty pages for what is read as one, and brings a parser of
// Markdown and one of YAML into both daemons.
func NewMan(program string) *cobra.Command {
	return &cobra.Command{
		Use:   "man",
		Short: "Print the manual page",
		Long: `man prints this help of all verbs as a manual page (section 8) in the language of man(7), for a
package to install.`,
		Example: "  " + program + " man > " + program + ".8",
		Hidden:  true,
		Args:    Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			date := ""
			if epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				date = time.Unix(epoch, 0).UTC().Format(time.DateOnly)
			}
			_, err := cmd.OutOrStdout().Write(manPage(cmd.Root(), date))
			return err
		},
	}
}

// page is a manual page in the making, in the language of man(7).
type page struct {
	strings.Builder
	fresh bool // nothing stands below the last heading
}

// manPage returns the page of a program.
func manPage(root *cobra.Command, date string) []byte {
	name := root.Name()
	p := new(page)
	p.heading("TH", strings.ToUpper(name), "8", date, name+" "+version, "System Manager's Manual")
	p.heading("SH", "NAME")
	p.text(name + " - " + root.Short)
	p.heading("SH", "SYNOPSIS")
	p.line(`.B ` + escape(name))
	p.line(`.I verb`)
	p.line(`[\fIflags\fR]`)
	p.heading("SH", "DESCRIPTION")
	p.text(root.Long)
	p.heading("SH", "VERBS")
	p.verbs(root)
	p.heading("SH", "OPTIONS")
	p.text("All verbs take:")
	p.flags(root.PersistentFlags())
	p.line(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nexplain a verb")
	p.heading("SH", "FILES")
	p.line(".TP\n.I /etc/" + name + "/" + name + ".toml\nconfiguration of the unit, and")
	p.line(".I conf.d/*.toml\nbeside it")
	p.line(".TP\n.I /etc/" + name + "/default.toml\nevery key with its default")
	p.line(".TP\n.I /usr/share/doc/" + name + "\ndocumentation, changes, licenses")
	p.heading("SH", "EXAMPLES")
	p.text(root.Example)
	p.heading("SH", "SEE ALSO")
	p.line(".BR systemctl (1),\n.BR journalctl (1),\n.BR systemd.service (5)")
	return []byte(p.String())
}

// verbs adds the verbs below cmd, those in front that have none of their own below.
func (p *page) verbs(cmd *cobra.Command) {
	for _, verb := range cmd.Commands() {
		if verb.Hidden || verb.Name() == "help" || verb.Parent().Name() == "completion" {
			continue
		}
		if verb.Runnable() && !verb.HasAvailableSubCommands() {
			p.heading("SS", escape(strings.TrimSuffix(verb.UseLine(), " [flags]")))
			p.text(cmp.Or(verb.Long, verb.Short+"."))
			p.flags(verb.LocalNonPersistentFlags())
			p.text(verb.Example)
			continue
		}
		p.heading("SS", verb.CommandPath())
		p.text(cmp.Or(verb.Long, verb.Short+"."))
		p.text(verb.Example)
		p.verbs(verb)
	}
}

// text adds paragraphs, apart by empty lines; lines that are indented stay as they are.
func (p *page) text(s string) {
	var inside, literal bool // of a paragraph
	end := func() {
		if inside && literal {
			p.line(".fi\n.RE")
		}
		inside = false
	}
	for line := range strings.SplitSeq(s, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if line == "" || indented != literal {
			end()
		}
		if line == "" {
			continue
		}
		if !inside && !p.fresh {
			p.line(".PP")
		}
		if !inside && indented {
			p.line(".RS 4\n.nf")
		}
		inside, literal = true, indented
		p.line(escape(strings.TrimPrefix(line, "  ")))
	}
	end()
}

// flags adds flags with what they take and do.
func (p *page) flags(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB` + escape("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			name = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + name
		}
		if value != "" {
			name += ` \fI` + escape(value) + `\fR`
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += " (default " + f.DefValue + ")"
		}
		p.line(".TP\n" + name + "\n" + escape(usage))
	})
}

// heading adds a macro whose arguments are quoted.
func (p *page) heading(macro string, args ...string) {
	for _, arg := range args {
		macro += ` "` + strings.ReplaceAll(arg, `"`, `\(dq`) + `"`
	}
	p.line("." + macro)
	p.fresh = true
}

func (p *page) line(s string) {
	p.WriteString(s + "\n")
	p.fresh = false
}

// escape returns a line of text as troff prints it: a backslash, a hyphen that can be
// copied, and no request at its begin (man(7), "Input").
func escape(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
