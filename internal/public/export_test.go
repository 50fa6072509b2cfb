package public

// Conns tells a test how many connections are open, and how many have been closed to
// make room for others.
func (s *Server) Conns() (open int, evicted uint64) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.open.Len(), s.gate.evicted
}
