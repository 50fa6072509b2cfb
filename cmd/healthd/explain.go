package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/health"
	"sidecar/internal/settings"
)

func newExplain(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [NODE]",
		Short: "Say why a node has its state",
		Long: `explain asks the healthd that runs here for the state of a node, or without NODE of the whole
machine, and says why it has it: the chain of causes down to the checks, and the last changes.`,
		Example: `  healthd explain
  healthd explain payments/3`,
		Args: cli.Usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			s, err := askSnapshot(cmd.Context(), c)
			if err != nil {
				return err
			}
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			return explain(cmd.OutOrStdout(), s, id)
		},
	}
}

// explain writes why a node, or the machine (""), has its state.
func explain(w io.Writer, s *health.Snapshot, id string) error {
	standing, name := s.Standing, "the machine"
	if id != "" {
		n := find(s, id)
		if n == nil {
			return cli.WithCode(cli.ExitUsage, fmt.Errorf("explain %q: there is no such node%s", id, similar(s, id)))
		}
		standing, name, id = n.Standing, n.ID, n.ID
	}
	fmt.Fprintln(w, line(s.At, name, standing))
	if n := s.Node(id); n != nil {
		explainNode(w, s.At, n)
	}
	causes(w, s, standing.Causes, "  ", map[string]bool{id: true})
	var children []string
	for _, n := range s.Nodes {
		if n.Parent == id && !slices.Contains(standing.Causes, n.ID) {
			children = append(children, n.ID+" "+n.State.String())
		}
	}
	if len(children) > 0 {
		fmt.Fprintf(w, "besides: %s\n", strings.Join(children, ", "))
	}
	if len(standing.Transitions) > 0 {
		fmt.Fprintln(w, "last changes:")
		for _, t := range slices.Backward(standing.Transitions) {
			fmt.Fprintf(w, "  %s  %s to %s%s\n", t.At.Local().Format(time.DateTime), t.From, t.To, reason(t.Text))
		}
	}
	return nil
}

// line returns a node, its state, since when, and why.
func line(now time.Time, name string, s health.Standing) string {
	text := fmt.Sprintf("%s: %s", name, s.State)
	if !s.Since.IsZero() {
		text += fmt.Sprintf(" for %v", now.Sub(s.Since).Round(time.Second))
	}
	if s.Flapping {
		text += ", flapping"
	}
	if s.Held {
		text += ", held"
	}
	return text + reason(s.Text)
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return ": " + cli.Printable(text)
}

// explainNode writes what is special about a node.
func explainNode(w io.Writer, now time.Time, n *health.NodeState) {
	if n.Children > 0 {
		fmt.Fprintf(w, "  group: %d of %d are well\n", n.Well, n.Children)
	}
	if !n.CheckedAt.IsZero() {
		fmt.Fprintf(w, "  last check: %v ago, took %v: %s%s\n", now.Sub(n.CheckedAt).Round(time.Second), n.Last.Duration.Round(time.Microsecond), n.Last.State, reason(n.Last.Text))
		for _, v := range n.Last.Values {
			fmt.Fprintf(w, "    %s = %v\n", v.Name, v.Value)
		}
	}
	if !n.Until.IsZero() {
		fmt.Fprintf(w, "  maintenance until %s\n", n.Until.Local().Format(time.DateTime))
	}
}

// causes writes the chain of causes. A cause that has been told is not told again.
func causes(w io.Writer, s *health.Snapshot, ids []string, indent string, told map[string]bool) {
	for _, id := range ids {
		n := s.Node(id)
		if n == nil {
			continue
		}
		if told[id] {
			fmt.Fprintf(w, "%sbecause of %s, see above\n", indent, id)
			continue
		}
		told[id] = true
		fmt.Fprintf(w, "%sbecause of %s\n", indent, line(s.At, id, n.Standing))
		causes(w, s, n.Causes, indent+"  ", told)
	}
}

// find returns the node with that ID, or the only one whose ID ends with that word, nil
// if there is none: "web-01" is enough for "web/web-01".
func find(s *health.Snapshot, id string) *health.NodeState {
	found := s.Node(id)
	if found != nil {
		return found
	}
	for i := range s.Nodes {
		if strings.HasSuffix(s.Nodes[i].ID, "/"+id) {
			if found != nil {
				return nil
			}
			found = &s.Nodes[i]
		}
	}
	return found
}

// similar returns a hint at nodes with a name like that.
func similar(s *health.Snapshot, id string) string {
	var all, like, top []string
	for i := range s.Nodes {
		n := &s.Nodes[i]
		all = append(all, n.ID, n.ID[strings.LastIndexByte(n.ID, '/')+1:])
		if strings.Contains(n.ID, id) {
			like = append(like, n.ID)
		}
		if n.Parent == "" {
			top = append(top, n.ID)
		}
	}
	if len(like) == 0 {
		if best := settings.Nearest(id, all, (len(id)+1)/3); best != "" {
			return "; did you mean " + best + "?"
		}
		like = top
	}
	const most = 12
	text := "; there are " + strings.Join(like[:min(len(like), most)], ", ")
	if len(like) > most {
		text += ", …"
	}
	return text
}
