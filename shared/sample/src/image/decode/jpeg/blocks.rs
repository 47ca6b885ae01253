//! The blocks of a scan: ITU-T T.81, annexes F (sequential) and G (progressive), without the arithmetic.

use super::super::{DecodeError, Format, corrupt};
use super::entropy::{Bits, End, Huffman};
use super::frame::{Frame, NOTHING};
use super::{Tables, short};

/// What a scan holds: which components, with which tables, and which part of their coefficients.
pub(super) struct Scan {
    /// Index in the frame's components, number of the DC table and of the AC table.
    parts: Vec<(usize, usize, usize)>,
    /// First and last coefficient, in zigzag order.
    band: (u32, u32),
    /// Whether it adds a bit to coefficients that an earlier scan gave.
    refines: bool,
}

impl Scan {
    pub(super) fn parse(segment: &[u8], frame: &mut Frame) -> Result<Self, DecodeError> {
        let (&[count], rest) = segment.split_first_chunk().ok_or_else(|| short("a scan header"))?;
        let (selectors, rest) =
            rest.split_at_checked(2 * usize::from(count)).ok_or_else(|| short("a scan header"))?;
        let &[from, to, approximation] = rest.first_chunk().ok_or_else(|| short("a scan header"))?;
        let wrong = |what: &str| corrupt(Format::Jpeg, format!("a scan {what}"));
        let (given, left) = (approximation >> 4, approximation & 15);
        let (band, given, left) = if frame.progressive { ((from, to), given, left) } else { ((0, 63), 0, 0) };
        let dc_alone = band == (0, 0);
        let ac_of_one = band.0 > 0 && band.0 <= band.1 && band.1 < 64 && count == 1;
        if count == 0 || frame.progressive && !dc_alone && !ac_of_one {
            return Err(wrong("selects coefficients that it cannot"));
        }
        let mut parts = Vec::new();
        for &[id, tables] in selectors.as_chunks().0 {
            let component = frame.components.iter().position(|c| c.id == id);
            let component = component.ok_or_else(|| wrong("of an unknown component"))?;
            let to_come = &mut frame.components[component].to_come[band.0.into()..=band.1.into()];
            // A first scan gives what nobody gave; each later one gives one bit more.
            let follows = |before: u8| if given == 0 { before == NOTHING } else { before == given };
            if !to_come.iter().copied().all(follows) || given > 0 && left + 1 != given {
                return Err(wrong("that does not follow on the one before"));
            }
            to_come.fill(left);
            parts.push((component, usize::from(tables >> 4 & 3), usize::from(tables & 3)));
        }
        Ok(Self { parts, band: (band.0.into(), band.1.into()), refines: given != 0 })
    }

    /// Reads every block of the scan from the start of `data`; gives where they end.
    pub(super) fn walk(
        &self,
        data: &[u8],
        frame: &mut Frame,
        tables: &Tables,
        restart_interval: u16,
    ) -> Result<End, DecodeError> {
        // A unit is what a restart interval counts: a block of a lone component, or all blocks of an area.
        let (across, down) = match self.parts[..] {
            [(only, ..)] => frame.own_blocks(only),
            _ => frame.units(),
        };
        let mut bits = Bits::new(data);
        let mut zero_run = 0;
        for unit in 0..across * down {
            if restart_interval > 0 && unit > 0 && unit % usize::from(restart_interval) == 0 {
                bits.restart(((unit / usize::from(restart_interval) - 1) % 8) as u8)?;
                zero_run = 0;
            }
            let (x, y) = (unit % across, unit / across);
            for &(component, dc, ac) in &self.parts {
                let component = &mut frame.components[component];
                let (h, v) = if self.parts.len() == 1 { (1, 1) } else { component.sampling };
                let tables = (tables.dc[dc].as_ref(), tables.ac[ac].as_ref());
                for block in 0..h * v {
                    let at = (y * v + block / h) * component.stride + x * h + block % h;
                    if frame.progressive {
                        self.progressive(&mut bits, tables, &mut component.nonzero[at], &mut zero_run)?;
                    } else {
                        sequential(&mut bits, tables)?;
                    }
                }
            }
        }
        bits.end()
    }

    /// One block of one progressive scan. `zero_run` is how many blocks from here on have no more new coefficients.
    fn progressive(
        &self,
        bits: &mut Bits<'_>,
        (dc, ac): (Option<&Huffman>, Option<&Huffman>),
        nonzero: &mut u64,
        zero_run: &mut u32,
    ) -> Result<(), DecodeError> {
        let (from, to) = self.band;
        if from == 0 {
            return if self.refines { bits.skip(1) } else { difference(bits, dc) };
        }
        let mut k = from;
        while *zero_run == 0 && k <= to {
            let symbol = bits.symbol(given(ac)?)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && run < 15 {
                *zero_run = (1 << run) + bits.take(run)?;
                break;
            }
            bits.skip(size)?;
            k = self.pass_zeros(bits, *nonzero, k, run)?;
            if size > 0 {
                if k > to {
                    return Err(bits.damaged("a coefficient beyond its block"));
                }
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        if *zero_run > 0 {
            *zero_run -= 1;
            if self.refines && k <= to {
                // Only the correction bits are left.
                self.pass_zeros(bits, *nonzero, k, u32::MAX)?;
            }
        }
        Ok(())
    }

    /// Passes `run` coefficients that are still zero; those that are not each take a correction bit in between.
    fn pass_zeros(
        &self,
        bits: &mut Bits<'_>,
        nonzero: u64,
        mut k: u32,
        mut run: u32,
    ) -> Result<u32, DecodeError> {
        if !self.refines {
            return Ok(k + run);
        }
        while k <= self.band.1 {
            if nonzero >> k & 1 == 1 {
                bits.skip(1)?;
            } else if run == 0 {
                break;
            } else {
                run -= 1;
            }
            k += 1;
        }
        Ok(k)
    }
}

fn sequential(
    bits: &mut Bits<'_>,
    (dc, ac): (Option<&Huffman>, Option<&Huffman>),
) -> Result<(), DecodeError> {
    difference(bits, dc)?;
    let ac = given(ac)?;
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(ac)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        match (run, size) {
            (0, 0) => break,
            (15, 0) => k += 16,
            _ => k += run + 1,
        }
        if k > 64 {
            return Err(bits.damaged("a coefficient beyond its block"));
        }
        bits.skip(size.into())?;
    }
    Ok(())
}

/// The first coefficient, as its difference to the block before.
fn difference(bits: &mut Bits<'_>, dc: Option<&Huffman>) -> Result<(), DecodeError> {
    let size = bits.symbol(given(dc)?)?;
    if size > 15 {
        return Err(bits.damaged("a step of more than 15 bits"));
    }
    bits.skip(size.into())
}

fn given(table: Option<&Huffman>) -> Result<&Huffman, DecodeError> {
    table.ok_or_else(|| corrupt(Format::Jpeg, "a scan without its Huffman table".to_owned()))
}
