//! Pickles as data: what a program of Python's pickle machine would make, without making it.
//!
//! Every class, call and state stays what it is named; nothing is looked up and nothing runs. Other readers refuse what
//! they do not expect, and a checkpoint holds whatever a training script kept beside its weights. Values lie in one list
//! and name each other by number, so that no depth of nesting ends a stack.
//!
//! Source: the opcodes are those of `pickletools` in Python 3.14, protocols 0 to 5.

mod escape;

use std::collections::HashMap;
use std::io::{self, Read};
use std::rc::Rc;

/// Values that a pickle may have; a state dict has some ten a tensor.
const MAX_VALUES: usize = 2 << 20;

/// Bytes of one string that are kept; of longer ones only the length is.
const MAX_TEXT: u64 = 1 << 16;

/// A value by its number.
pub(super) type Id = u32;

/// What a pickle makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Numbers and bytes that no weight is named or measured by.
    Other,
    Text(Rc<str>),
    /// Lists, tuples and sets.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `torch.FloatStorage`: module and name.
    Global(Rc<str>),
    /// What stands outside the pickle, by what the pickle says of it.
    Persistent(Id),
    Made(Box<Made>),
}

/// An object: what was called, with what, and what was put into it afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Made {
    pub callable: Id,
    /// A sequence.
    pub arguments: Id,
    pub state: Option<Id>,
    pub entries: Vec<(Id, Id)>,
    pub items: Vec<Id>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    pub root: Id,
}

/// Why bytes are no pickle.
#[derive(Debug, thiserror::Error)]
pub(super) enum PickleError {
    #[error("the pickle ends before its end")]
    Ends,
    #[error("{0}")]
    Io(io::Error),
    #[error("the pickle has no opcode {0:#04x}")]
    Opcode(u8),
    #[error("the pickle takes a value that is not there")]
    Empty,
    #[error("the pickle has more than {MAX_VALUES} values")]
    TooMany,
    #[error("the pickle has text that is none")]
    Text,
}

impl From<io::Error> for PickleError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Ends } else { Self::Io(error) }
    }
}

impl Pickle {
    /// Reads one pickle, to the byte behind its end.
    pub fn read(from: &mut impl Read) -> Result<Self, PickleError> {
        let mut machine =
            Machine { from, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    pub fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub fn get(&self, id: Id) -> Option<&Value> {
        self.values.get(id as usize)
    }

    /// The items of a list or tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// `torch.FloatStorage`.
    pub fn global(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Global(name) => Some(name),
            _ => None,
        }
    }
}

/// Python's pickle machine, which builds descriptions.
struct Machine<'a, R> {
    from: &'a mut R,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            if self.stack.len() + self.marks.len() > MAX_VALUES {
                return Err(PickleError::TooMany);
            }
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    /// One opcode: a flat table.
    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            0x80 => drop(self.byte()?),
            0x95 => drop(self.number(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop_or_mark()?),
            b'1' => drop(self.take_to_mark()?),
            b'2' => {
                let top = *self.stack.last().ok_or(PickleError::Empty)?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' | b'L' => {
                let line = self.line()?;
                let value = match line.as_str() {
                    "00" if opcode == b'I' => Value::Bool(false),
                    "01" if opcode == b'I' => Value::Bool(true),
                    digits => digits.trim_end_matches('L').parse().map_or(Value::Other, Value::Int),
                };
                self.push(value)?;
            }
            b'J' => {
                let int = self.number(4)? as u32 as i32;
                self.push(Value::Int(int.into()))?;
            }
            b'K' => self.push_int(1)?,
            b'M' => self.push_int(2)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'F' => {
                self.line()?;
                self.push(Value::Other)?;
            }
            b'G' => {
                self.number(8)?;
                self.push(Value::Other)?;
            }
            b'S' => {
                let line = self.line()?;
                self.push_text(line.trim_matches(['\'', '"']).into())?;
            }
            b'V' => {
                let line = self.line_bytes()?;
                self.push_text(escape::unescaped(&line).into())?;
            }
            b'U' | 0x8c => self.text(1)?,
            b'T' | b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.bytes(1)?,
            b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            // Buffers that lie outside the pickle.
            0x97 => self.push(Value::Other)?,
            0x98 => {}
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new()))?,
            b'l' | b't' | 0x91 => {
                let items = self.take_to_mark()?;
                self.push(Value::Sequence(items))?;
            }
            0x85..=0x87 => {
                let items = self.take(usize::from(opcode - 0x84))?;
                self.push(Value::Sequence(items))?;
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let entries = pairs(&self.take_to_mark()?);
                self.push(Value::Dict(entries))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.take_to_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let entry = self.take(2)?;
                self.update(&pairs(&entry))?;
            }
            b'u' => {
                let items = self.take_to_mark()?;
                self.update(&pairs(&items))?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module}.{name}").into()))?;
            }
            0x93 => {
                let names = self.take(2)?;
                let part = |id: Id| match &self.values[id as usize] {
                    Value::Text(text) => Rc::clone(text),
                    _ => "?".into(),
                };
                let name = format!("{}.{}", part(names[0]), part(names[1]));
                self.push(Value::Global(name.into()))?;
            }
            // Numbers that stand for classes: known to nobody but their program.
            0x82..=0x84 => {
                self.number(1 << (opcode - 0x82))?;
                self.push(Value::Global("extension".into()))?;
            }
            b'R' | 0x81 => {
                let made = self.take(2)?;
                self.make(made[0], made[1])?;
            }
            0x92 => {
                let made = self.take(3)?;
                self.make(made[0], made[1])?;
            }
            b'o' => {
                let mut items = self.take_to_mark()?;
                if items.is_empty() {
                    return Err(PickleError::Empty);
                }
                let class = items.remove(0);
                let arguments = self.add(Value::Sequence(items))?;
                self.make(class, arguments)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let items = self.take_to_mark()?;
                let class = self.add(Value::Global(format!("{module}.{name}").into()))?;
                let arguments = self.add(Value::Sequence(items))?;
                self.make(class, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                let top = *self.stack.last().ok_or(PickleError::Empty)?;
                if let Value::Made(made) = &mut self.values[top as usize] {
                    made.state = Some(state);
                }
            }
            b'P' => {
                let name = self.line()?;
                let id = self.add(Value::Text(name.into()))?;
                self.push(Value::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            b'p' | b'g' => {
                let at = self.line()?.parse().map_err(|_| PickleError::Text)?;
                if opcode == b'p' { self.keep(at)? } else { self.recall(at)? }
            }
            b'q' | b'r' => {
                let at = self.number(if opcode == b'q' { 1 } else { 4 })?;
                self.keep(at)?;
            }
            b'h' | b'j' => {
                let at = self.number(if opcode == b'h' { 1 } else { 4 })?;
                self.recall(at)?;
            }
            0x94 => self.keep(self.memo.len() as u64)?,
            opcode => return Err(PickleError::Opcode(opcode)),
        }
        Ok(())
    }

    fn add(&mut self, value: Value) -> Result<Id, PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(PickleError::TooMany);
        }
        self.values.push(value);
        Ok((self.values.len() - 1) as Id)
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        let id = self.add(value)?;
        self.stack.push(id);
        Ok(())
    }

    fn push_int(&mut self, n_bytes: usize) -> Result<(), PickleError> {
        let int = self.number(n_bytes)?;
        self.push(Value::Int(int as i64))
    }

    fn push_text(&mut self, text: Rc<str>) -> Result<(), PickleError> {
        self.push(Value::Text(text))
    }

    fn make(&mut self, callable: Id, arguments: Id) -> Result<(), PickleError> {
        self.push(Value::Made(Box::new(Made { callable, arguments, ..Made::default() })))
    }

    /// Puts items into the list, set or object on top.
    fn extend(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let top = *self.stack.last().ok_or(PickleError::Empty)?;
        match &mut self.values[top as usize] {
            Value::Sequence(list) => list.extend(items),
            Value::Made(made) => made.items.extend(items),
            _ => {}
        }
        Ok(())
    }

    /// Puts entries into the dict or object on top.
    fn update(&mut self, entries: &[(Id, Id)]) -> Result<(), PickleError> {
        let top = *self.stack.last().ok_or(PickleError::Empty)?;
        match &mut self.values[top as usize] {
            Value::Dict(dict) => dict.extend(entries),
            Value::Made(made) => made.entries.extend(entries),
            _ => {}
        }
        Ok(())
    }

    /// Takes the top value, of which a mark's are none.
    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor { Err(PickleError::Empty) } else { self.stack.pop().ok_or(PickleError::Empty) }
    }

    fn pop_or_mark(&mut self) -> Result<(), PickleError> {
        match self.marks.last() {
            Some(mark) if *mark == self.stack.len() => {
                self.marks.pop();
                Ok(())
            }
            _ => self.pop().map(drop),
        }
    }

    fn take(&mut self, n: usize) -> Result<Vec<Id>, PickleError> {
        let mut taken = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        taken.reverse();
        Ok(taken)
    }

    fn take_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Empty)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn keep(&mut self, at: u64) -> Result<(), PickleError> {
        let top = *self.stack.last().ok_or(PickleError::Empty)?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u64) -> Result<(), PickleError> {
        let id = *self.memo.get(&at).ok_or(PickleError::Empty)?;
        self.stack.push(id);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, n_bytes: usize) -> Result<u64, PickleError> {
        let mut bytes = [0; 8];
        self.from.read_exact(&mut bytes[..n_bytes])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number of any length, little-endian in two's complement.
    fn long(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let n_bytes = self.number(length_bytes)?;
        let bytes = self.kept(n_bytes)?;
        let value = match bytes {
            Some(bytes) if bytes.len() <= 8 => {
                let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
                let mut whole = [fill; 8];
                whole[..bytes.len()].copy_from_slice(&bytes);
                Value::Int(i64::from_le_bytes(whole))
            }
            _ => Value::Other,
        };
        self.push(value)
    }

    fn text(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let n_bytes = self.number(length_bytes)?;
        let value =
            self.kept(n_bytes)?.map_or(Value::Other, |bytes| Value::Text(String::from_utf8_lossy(&bytes).into()));
        self.push(value)
    }

    fn bytes(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let n_bytes = self.number(length_bytes)?;
        self.kept(n_bytes)?;
        self.push(Value::Other)
    }

    /// So many bytes; `None` where they are more than are kept.
    fn kept(&mut self, n_bytes: u64) -> Result<Option<Vec<u8>>, PickleError> {
        if n_bytes > MAX_TEXT {
            let n_skipped = io::copy(&mut self.from.by_ref().take(n_bytes), &mut io::sink())?;
            return if n_skipped == n_bytes { Ok(None) } else { Err(PickleError::Ends) };
        }
        let mut bytes = vec![0; n_bytes as usize];
        self.from.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Text up to the end of a line.
    fn line(&mut self) -> Result<String, PickleError> {
        let line = self.line_bytes()?;
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    fn line_bytes(&mut self) -> Result<Vec<u8>, PickleError> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() as u64 > MAX_TEXT => return Err(PickleError::Text),
                byte => line.push(byte),
            }
        }
        Ok(line)
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests;
