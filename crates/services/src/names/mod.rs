pub fn is_label(s: &str) -> bool {
    !s.is_empty()
}
