//! Text as the oldest protocol writes it.

/// Python's `raw-unicode-escape`: Latin-1, and `\uXXXX` for what that has not.
pub(super) fn unescaped(line: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let escaped = tail.strip_prefix(b"u").and_then(|digits| digits.first_chunk::<4>());
        let code = escaped.filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                text.push(character);
                rest = &tail[5..];
            }
            None => {
                text.push(char::from(*first));
                rest = tail;
            }
        }
    }
    text
}
