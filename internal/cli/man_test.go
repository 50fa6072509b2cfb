package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManPage: every text of a program is in its page, tables and examples line by line,
// and what means something to troff is escaped.
func TestManPage(t *testing.T) {
	root := Root(&cobra.Command{Use: "prog", Short: "Do things", Long: "A \\program.\n.It does\nthings:\n\n  a  1\n  b  2\n\nEnd.", Example: "  prog verb"})
	new(Flags).Register(root, "default.toml")
	verb := &cobra.Command{Use: "verb ARG", Short: "Short", Example: "  prog verb 'x'\n  'prog'", Run: func(*cobra.Command, []string) {}}
	verb.Flags().IntP("count", "n", 20, "how `many`")
	parent := &cobra.Command{Use: "parent", Long: "Parents have verbs.", RunE: root.RunE}
	parent.AddCommand(&cobra.Command{Use: "child", Short: "Be small", Run: func(*cobra.Command, []string) {}})
	root.AddCommand(verb, parent, NewMan("prog"))
	const want = `.TH "PROG" "8" "2026-11-21" "prog 0.1.0-dev" "System Manager's Manual"
.SH "NAME"
prog \- Do things
.SH "SYNOPSIS"
.B prog
.I verb
[\fIflags\fR]
.SH "DESCRIPTION"
A \eprogram.
\&.It does
things:
.PP
.RS 4
.nf
a  1
b  2
.fi
.RE
.PP
End.
.SH "VERBS"
.SS "prog parent"
Parents have verbs.
.SS "prog parent child"
Be small.
.SS "prog verb ARG"
Short.
.TP
\fB\-n\fR, \fB\-\-count\fR \fImany\fR
how many (default 20)
.PP
.RS 4
.nf
prog verb 'x'
\&'prog'
.fi
.RE
.SH "OPTIONS"
`
	got := string(manPage(root, "2026-11-21"))
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s", got)
	}
	for _, want := range []string{"\n\\fB\\-\\-set\\fR \\fIsection.key=value\\fR\n", ".SH \"EXAMPLES\"\n.RS 4\n.nf\nprog verb\n.fi\n.RE\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "prog man") {
		t.Error("the hidden verb is told")
	}
}
