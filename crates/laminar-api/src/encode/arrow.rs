//! `application/vnd.apache.arrow.stream`: the rows of one statement as an Arrow IPC stream, for dataframe libraries.
//!
//! A failure after the first batch cuts the body short, without the stream's end marker: readers report it.

use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};

use super::{Format, Frame, Frames, fail_early};
use crate::error::ApiResult;

pub async fn answer(frames: Frames) -> ApiResult<Response> {
    let chunks =
        fail_early(frames).await?.map(Some).chain(stream::iter([None])).scan(Writer::Unopened, |writer, frame| {
            let chunk = match frame {
                Some(frame) => writer.take(frame),
                None => writer.finish(),
            };
            // The first error ends the body.
            std::future::ready(match (&writer, chunk) {
                (Writer::Broken, Ok(_)) => None,
                (_, Ok(bytes)) => Some(Ok(bytes)),
                (_, Err(error)) => {
                    *writer = Writer::Broken;
                    Some(Err(error))
                }
            })
        });
    Ok(([(header::CONTENT_TYPE, Format::Arrow.media_type())], Body::from_stream(chunks)).into_response())
}

enum Writer {
    Unopened,
    Open(Box<StreamWriter<Vec<u8>>>),
    Broken,
}

impl Writer {
    fn take(&mut self, frame: Frame) -> io::Result<Bytes> {
        match frame {
            Frame::Columns { schema, .. } => self.open(&schema),
            Frame::Rows(batch) => self.write(&batch),
            Frame::Failed(error) => Err(io::Error::other(error)),
            Frame::Notices(_) | Frame::Done(_) => Ok(Bytes::new()),
        }
    }

    fn open(&mut self, schema: &SchemaRef) -> io::Result<Bytes> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(ipc)?;
        let head = std::mem::take(writer.get_mut());
        *self = Self::Open(Box::new(writer));
        Ok(head.into())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<Bytes> {
        let Self::Open(writer) = self else { return Ok(Bytes::new()) };
        writer.write(batch).map_err(ipc)?;
        Ok(std::mem::take(writer.get_mut()).into())
    }

    /// A statement without rows answers with an empty schema.
    fn finish(&mut self) -> io::Result<Bytes> {
        let head = match self {
            Self::Unopened => self.open(&SchemaRef::new(Schema::empty()))?,
            _ => Bytes::new(),
        };
        let Self::Open(writer) = self else { return Ok(head) };
        writer.finish().map_err(ipc)?;
        let mut all = head.to_vec();
        all.append(writer.get_mut());
        Ok(all.into())
    }
}

fn ipc(error: ArrowError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::ipc::reader::StreamReader;
    use laminar_core::Error;

    use super::*;

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("v", column)]).unwrap()
    }

    async fn body(frames: Vec<Frame>) -> Result<Bytes, axum::Error> {
        let response = answer(stream::iter(frames).boxed()).await.unwrap();
        axum::body::to_bytes(response.into_body(), usize::MAX).await
    }

    fn done(tag: &str) -> Frame {
        Frame::Done(super::super::Done { tag: tag.into(), setting: None })
    }

    fn columns() -> Frame {
        Frame::Columns { schema: batch(&[]).schema(), endless: false }
    }

    #[tokio::test]
    async fn batches_are_read_back() {
        let frames = vec![columns(), Frame::Rows(batch(&[1, 2])), Frame::Rows(batch(&[3])), done("SELECT 3")];
        let bytes = body(frames).await.unwrap();
        let read: Vec<_> = StreamReader::try_new(bytes.as_ref(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [batch(&[1, 2]), batch(&[3])]);
    }

    #[tokio::test]
    async fn no_rows_is_an_empty_schema() {
        let bytes = body(vec![done("CREATE TABLE")]).await.unwrap();
        assert_eq!(StreamReader::try_new(bytes.as_ref(), None).unwrap().schema().fields().len(), 0);
    }

    #[tokio::test]
    async fn a_late_failure_cuts_the_body_short() {
        let frames = vec![columns(), Frame::Rows(batch(&[1])), Frame::Failed(Error::internal("x"))];
        assert!(body(frames).await.is_err());
    }
}
