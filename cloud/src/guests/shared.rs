//! Memory that the pool and a worker both see. The pool makes it and seals it against shrinking, so that whatever the
//! worker does to it, reading and writing here never fail.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, FileOffset, VolatileMemory};

use super::message::{Tensor, TensorError};
use millgate_shared::array::Array;

/// The least that is made; a power of two.
const LEAST: usize = 64 << 10;

/// Memory of one lane.
#[derive(Debug)]
pub(crate) struct Memory {
    region: MmapRegion,
}

impl Memory {
    /// Makes memory of at least so many bytes, and the file by which a worker gets it.
    pub(super) fn new(bytes: usize) -> io::Result<(Self, File)> {
        let bytes = bytes.max(LEAST).checked_next_power_of_two().unwrap_or(bytes);
        let file = File::from(made("millgate-lane")?);
        file.set_len(bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::of(file.try_clone()?, bytes)?, file))
    }

    /// Makes memory that holds this; for fuzzing.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of_content(content: &[u8]) -> io::Result<(Self, File)> {
        let (memory, mut file) = Self::new(content.len())?;
        file.write_all(content)?;
        Ok((memory, file))
    }

    /// Maps the memory that came as a file.
    pub(crate) fn of(file: File, bytes: usize) -> io::Result<Self> {
        let region = MmapRegion::from_file(FileOffset::new(file, 0), bytes);
        Ok(Self { region: region.map_err(io::Error::other)? })
    }

    pub(crate) fn size(&self) -> usize {
        self.region.size()
    }

    /// Writes arrays to where they were laid out.
    pub(crate) fn write(&self, arrays: &[Array], tensors: &[Tensor]) -> Result<(), TensorError> {
        let mut done = Ok(());
        for (array, tensor) in arrays.iter().zip(tensors) {
            let mut at = tensor.at;
            array.values().visit_raw(|bytes| {
                if done.is_ok() {
                    done = self.place(at, bytes.len()).and_then(|place| {
                        place.write_slice(bytes, 0).map_err(|error| TensorError::Place(error.to_string()))
                    });
                }
                at = at.saturating_add(bytes.len());
            });
        }
        done
    }

    /// Reads arrays from where they are said to lie.
    pub(crate) fn read(&self, tensors: Vec<Tensor>) -> Result<Vec<Array>, TensorError> {
        // Each has a place of its own: together they are no more than there is.
        let all = tensors.iter().try_fold(0_usize, |all, tensor| all.checked_add(tensor.size));
        if all.is_none_or(|all| all > self.size()) {
            return Err(TensorError::Place("named more than its memory holds".to_owned()));
        }
        let read = |tensor: Tensor| {
            // Looked at before memory is taken for it: a size is only what somebody says.
            let place = self.place(tensor.at, tensor.size)?;
            tensor.array(|into| {
                place.read_slice(into, 0).map_err(|error| TensorError::Place(error.to_string()))
            })
        };
        tensors.into_iter().map(read).collect()
    }

    fn place(&self, at: usize, size: usize) -> Result<vm_memory::VolatileSlice<'_>, TensorError> {
        let missing = |_| TensorError::Place("named a place that is not in its memory".to_owned());
        self.region.get_slice(at, size).map_err(missing)
    }
}

/// Puts bytes into a file that lives in memory alone, one part after the other, and seals it: nobody can change it.
pub(super) fn kept(parts: &[&[u8]]) -> io::Result<File> {
    let mut file = File::from(made("millgate-model")?);
    for part in parts {
        file.write_all(part)?;
    }
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file)
}

fn made(name: &str) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use millgate_shared::array::Values;

    use super::*;

    #[test]
    fn both_sides_see_the_same_arrays_and_neither_can_shrink_it() {
        let arrays = [
            Array::new(vec![3, 5], Values::Fp32((0..15).map(|n| n as f32).collect())).unwrap(),
            Array::new(vec![2], Values::Bytes(vec![b"ab".to_vec().into(), b"".to_vec().into()])).unwrap(),
        ];
        let (tensors, bytes) = Tensor::lay_out(&arrays);
        let (ours, file) = Memory::new(bytes).unwrap();
        assert!(ours.size() >= bytes && ours.size() == LEAST);
        ours.write(&arrays, &tensors).unwrap();
        let theirs = Memory::of(file.try_clone().unwrap(), ours.size()).unwrap();
        assert_eq!(theirs.read(tensors.clone()).unwrap(), arrays);
        assert!(file.set_len(0).is_err(), "the pool would fault");
        let twice = [tensors.clone(), vec![tensors[0].clone(); LEAST / tensors[0].size]].concat();
        assert!(theirs.read(twice).is_err(), "one place is not many tensors");
        let beyond = tensors.into_iter().map(|tensor| tensor.moved(usize::MAX - 4)).collect();
        assert!(theirs.read(beyond).is_err());
    }

    #[test]
    fn what_is_kept_cannot_be_changed() {
        let file = kept(&[b"model", b"weights"]).unwrap();
        let mut bytes = [0; 12];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"modelweights");
        assert!(file.write_all_at(b"x", 0).is_err() && file.set_len(1).is_err());
    }
}
