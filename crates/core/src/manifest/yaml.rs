//! Text to trees. Takes the parser's events one by one, so that depth and size are bounded while reading: an alias is
//! copied only where there is room, and a file that would unfold to gigabytes never does.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks, Tag};

use super::{
    diagnostic::{Source, Span},
    node::{Entry, Flaw, Node, Value},
    scalar,
};

/// Deepest nesting. A policy nests 6 levels deep.
const MAX_DEPTH: usize = 32;
/// Most nodes of all documents. The largest policy has some 10,000.
const MAX_NODES: usize = 100_000;
/// How often reading goes on with the next document after one that cannot be read.
const MAX_BROKEN: usize = 64;

/// Something that makes a document unreadable.
#[derive(Debug, PartialEq)]
pub(super) struct Broken {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Reads all documents. One that is broken does not hide those that follow.
pub(super) fn read(source: &Source) -> (Vec<Node>, Vec<Broken>) {
    let mut documents = Vec::new();
    let mut broken = Vec::new();
    let mut room = MAX_NODES;
    let mut start = 0;
    while broken.len() < MAX_BROKEN {
        let mut reader = Reader::new(source, start, room);
        let result = reader.read(&mut documents);
        room = reader.room;
        let begun = reader.document;
        let Err(problem) = result else { break };
        broken.push(problem);
        match next_document(source.text, begun.max(start)) {
            Some(next) if room > 0 => start = next,
            _ => break,
        }
    }
    (documents, broken)
}

/// Where the first document begins after the one at `from`.
fn next_document(text: &str, from: usize) -> Option<usize> {
    // `from` may be the very marker of the document that is broken: the next one is on a later line.
    text.get(from..)?.find("\n---").map(|at| from + at + 1)
}

/// A list or a mapping that is not complete yet.
struct Frame {
    span: Span,
    anchor: usize,
    tag: Option<Flaw>,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<Key>),
}

/// A key that waits for its value.
struct Key {
    name: String,
    span: Span,
    flaw: Option<Flaw>,
}

struct Reader<'a> {
    source: &'a Source<'a>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Characters before the parser's own text.
    before: usize,
    /// Where the document begins that is being read.
    document: usize,
    room: usize,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source<'a>, start: usize, room: usize) -> Self {
        let text = source.text.get(start..).unwrap_or_default();
        Self {
            source,
            parser: Parser::new_from_str(text),
            before: source.character(start),
            document: start,
            room,
            frames: Vec::new(),
            anchors: HashMap::new(),
        }
    }

    fn read(&mut self, documents: &mut Vec<Node>) -> Result<(), Broken> {
        while let Some(event) = self.parser.next_event() {
            let (event, marks) = event.map_err(|error| self.syntax(&error))?;
            let span = self.span(marks);
            let (node, anchor) = match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
                Event::StreamEnd => break,
                Event::DocumentStart(_) => {
                    self.document = span.offset;
                    self.anchors.clear();
                    continue;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(span, anchor, tag.as_deref(), Kind::List(Vec::new()))?;
                    continue;
                }
                Event::MappingStart(anchor, tag) => {
                    self.open(span, anchor, tag.as_deref(), Kind::Map(Vec::new(), None))?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match self.close(span) {
                    Some(node) => node,
                    None => continue,
                },
                Event::Scalar(text, style, anchor, tag) => {
                    self.take(1, span)?;
                    if self.wants_key() {
                        self.key(key(&text, style, tag.as_deref(), span));
                        continue;
                    }
                    (Node { span, value: scalar(&text, style, tag.as_deref()) }, anchor)
                }
                Event::Alias(id) => (self.alias(id, span)?, 0),
            };
            if anchor > 0 {
                let size = size(&node);
                self.take(size, span)?;
                self.anchors.insert(anchor, (node.clone(), size));
            }
            self.place(node, documents);
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, node: Node, documents: &mut Vec<Node>) {
        let Some(frame) = self.frames.last_mut() else {
            documents.push(node);
            return;
        };
        match &mut frame.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries, key) => match key.take() {
                Some(Key { name, span, flaw }) => {
                    entries.push(Entry { key: name, key_span: span, flaw, value: node });
                }
                // A list or a mapping (or an alias of anything) in the place of a key.
                None => {
                    let flaw = Flaw {
                        message: "a key must be a string".into(),
                        help: "a { that begins no mapping must be in quotes".into(),
                    };
                    *key = Some(Key { name: "?".into(), span: node.span, flaw: Some(flaw) });
                }
            },
        }
    }

    fn open(&mut self, span: Span, anchor: usize, tag: Option<&Tag>, kind: Kind) -> Result<(), Broken> {
        self.take(1, span)?;
        if self.frames.len() >= MAX_DEPTH {
            return Err(too_large(span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let tag = tag.filter(|tag| !is_core(tag, &["map", "seq"])).map(tag_flaw);
        self.frames.push(Frame { span, anchor, tag, kind });
        Ok(())
    }

    /// Completes the innermost list or mapping.
    fn close(&mut self, end: Span) -> Option<(Node, usize)> {
        let Frame { span, anchor, tag, kind } = self.frames.pop()?;
        let end = (end.offset + end.len).max(span.offset);
        let value = match (tag, kind) {
            (Some(flaw), _) => Value::Bad(flaw),
            (None, Kind::List(items)) => Value::List(items),
            (None, Kind::Map(entries, _)) => Value::Map(entries),
        };
        Some((Node { span: Span { offset: span.offset, len: end - span.offset }, value }, anchor))
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { kind: Kind::Map(_, None), .. }))
    }

    fn key(&mut self, new: Key) {
        if let Some(Frame { kind: Kind::Map(_, key), .. }) = self.frames.last_mut() {
            *key = Some(new);
        }
    }

    /// A copy of what the anchor stands for; its places are those of the original, where the text is.
    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Broken> {
        let Some((_, size)) = self.anchors.get(&id) else {
            return Err(too_large(span, "an alias within its own anchor".into()));
        };
        let size = *size;
        self.take(size, span)?;
        let node = self.anchors.get(&id).map(|(node, _)| node.clone());
        Ok(node.unwrap_or(Node { span, value: Value::Null }))
    }

    fn take(&mut self, nodes: usize, span: Span) -> Result<(), Broken> {
        match self.room.checked_sub(nodes) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => {
                self.room = 0;
                Err(too_large(span, format!("more than {MAX_NODES} values, aliases unfolded")))
            }
        }
    }

    fn span(&self, marks: Marks) -> Span {
        let offset = self.source.byte(self.before + marks.start.index());
        let end = self.source.byte(self.before + marks.end.index());
        Span { offset, len: end.saturating_sub(offset) }
    }

    fn syntax(&self, error: &ScanError) -> Broken {
        let offset = self.source.byte(self.before + error.marker().index());
        let line = self.source.text.get(..offset).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
        let help = if self.source.text.contains("{{") {
            Some("this looks like a template: render it first, as with helm template".into())
        } else if line.contains('\t') {
            Some("YAML is indented with spaces, never with tabs".into())
        } else {
            None
        };
        Broken { span: Span { offset, len: 0 }, message: format!("not valid YAML: {}", error.info()), help }
    }
}

fn too_large(span: Span, message: String) -> Broken {
    Broken { span, message, help: Some("no policy needs that".into()) }
}

fn key(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Key {
    let flaw = if style == ScalarStyle::Plain && text == "<<" {
        Some(Flaw {
            message: "merge keys are not supported".into(),
            help: "write the fields out, or use an alias for the whole value".into(),
        })
    } else {
        match scalar(text, style, tag) {
            Value::Bad(flaw) => Some(flaw),
            Value::Null | Value::Bool(_) => {
                Some(Flaw { message: "a key must be a string".into(), help: format!("quote it: \"{text}\"") })
            }
            _ => None,
        }
    };
    Key { name: text.to_owned(), span, flaw }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    match tag {
        Some(tag) if is_core(tag, &["str"]) || (tag.handle.is_empty() && tag.suffix == "!") => {
            Value::String(text.to_owned())
        }
        Some(tag) => Value::Bad(tag_flaw(tag)),
        None if style == ScalarStyle::Plain => scalar::resolve(text),
        None => Value::String(text.to_owned()),
    }
}

fn is_core(tag: &Tag, suffixes: &[&str]) -> bool {
    tag.is_yaml_core_schema() && suffixes.contains(&tag.suffix.as_str())
}

fn tag_flaw(tag: &Tag) -> Flaw {
    Flaw { message: format!("the YAML tag {tag} is not supported"), help: "write the value without a tag".into() }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
        _ => 1,
    }
}
