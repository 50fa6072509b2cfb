// Package promproto makes pages of protobuf part of the one page of metrics, for what
// only protobuf has words for: native histograms, and exemplars beside pages of text.
// Like promtext it fetches nothing, serves nothing, has no clock and no files.
//
// There is one set of rules, and it is promtext's. A [Target] writes a page of protobuf
// as the text that the target itself would have answered with, and has a
// promtext.Target read that: names, labels, limits, duplicates, conflicts of types and
// sums are judged there, and labels are put in there. It keeps what text cannot say. What
// is merged is text again; [Append] turns it into protobuf, and gives the series that are
// still there what was kept of them.
//
//	report, err := target.Read(page, room)              // one per target and scrape
//	...
//	page, _ := merger.Append(nil, promtext.Text, texts, summers)
//	answer, lost := promproto.Append(answer[:0], page, targets)
//
// The messages are those of github.com/prometheus/client_model, io.prometheus.client, each
// with its length before it. This costs over a hundred times as much as text does for each series
// (docs/performance.md), so it is for scrapers that prefer protobuf, and targets that need
// it.
package promproto
