//! One run of the YAML parser: text to trees. Takes the parser's events one by one, so that depth and size are bounded while reading: an alias is
//! copied only where there is room, and a file that would unfold to gigabytes never does.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError, Span as Marks, Tag};

use super::{
    diagnostic::{Source, Span},
    documents::{Broken, MAX_NODES},
    node::{Entry, Flaw, Node, Value},
    scalar,
};

/// Deepest nesting. A policy nests 6 levels deep.
const MAX_DEPTH: usize = 32;

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

pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Characters before the parser's own text.
    before: usize,
    /// Where the document begins that is being read.
    pub(super) document: usize,
    /// How many more nodes may be read.
    pub(super) room: usize,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source<'a>, start: usize, room: usize) -> Self {
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

    /// Reads documents up to the end of the text, or to one that is broken.
    pub(super) fn read(&mut self, documents: &mut Vec<Node>) -> Result<(), Broken> {
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
                        let flaw = scalar::key_flaw(&text, style, tag.as_deref());
                        let name = text.into_owned();
                        self.key(Key { name, span, flaw });
                        continue;
                    }
                    (Node { span, value: scalar::value(&text, style, tag.as_deref()) }, anchor)
                }
                Event::Alias(id) => (self.alias(id, span)?, 0),
            };
            if anchor > 0 {
                let size = node.size();
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
        let tag = tag.and_then(scalar::container_flaw);
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
        // An error at the end of the text is shown where the text ends, not on the empty line after it.
        let end = self.source.text.trim_end().len();
        let offset = self.source.byte(self.before + error.marker().index()).min(end);
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
