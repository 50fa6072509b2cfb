package output

// ProbeDue tells a test if it is still to be found out whether an end of stream
// comes back.
func (t *TCP) ProbeDue() bool { return t.proof.probeDue() }
