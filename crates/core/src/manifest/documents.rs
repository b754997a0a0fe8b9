//! The documents of a file. One that is broken does not hide those that follow.

use super::{
    diagnostic::{Source, Span},
    node::Node,
    yaml::Reader,
};

/// Most nodes of all documents. The largest policy has some 10,000.
pub(super) const MAX_NODES: usize = 100_000;
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
