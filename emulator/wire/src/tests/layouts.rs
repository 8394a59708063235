//! Our table of fields against the kernel's structures, and against itself.

use std::mem::offset_of;

use vfio_bindings::bindings::vfio as kernel;

use crate::layout::{
    self, Field, device_feature, device_info, dma_map, dma_unmap, irq_info, region_cap,
    region_info, set_irqs, sparse_mmap,
};
use crate::{
    DeviceFeature, DeviceInfoFlags, DmaMap, DmaUnmap, IrqAction, IrqData, IrqIndex, IrqInfoFlags,
    RegionCaps, RegionIndex, RegionInfoFlags, SetIrqs,
};

macro_rules! same_place {
    ($($module:ident::$field:ident = $structure:ident.$member:ident),* $(,)?) => {
        $(assert_eq!(
            $module::$field.offset,
            offset_of!(kernel::$structure, $member),
            concat!(stringify!($structure), ".", stringify!($member)),
        );)*
    };
}

#[test]
fn fields_lie_where_the_kernel_has_them() {
    same_place!(
        dma_map::ARGSZ = vfio_iommu_type1_dma_map.argsz,
        dma_map::FLAGS = vfio_iommu_type1_dma_map.flags,
        // The protocol has a file offset where the ioctl has a virtual address.
        dma_map::OFFSET = vfio_iommu_type1_dma_map.vaddr,
        dma_map::ADDRESS = vfio_iommu_type1_dma_map.iova,
        dma_map::SIZE = vfio_iommu_type1_dma_map.size,
        dma_unmap::ARGSZ = vfio_iommu_type1_dma_unmap.argsz,
        dma_unmap::FLAGS = vfio_iommu_type1_dma_unmap.flags,
        dma_unmap::ADDRESS = vfio_iommu_type1_dma_unmap.iova,
        dma_unmap::SIZE = vfio_iommu_type1_dma_unmap.size,
        device_info::ARGSZ = vfio_device_info.argsz,
        device_info::FLAGS = vfio_device_info.flags,
        device_info::NUM_REGIONS = vfio_device_info.num_regions,
        device_info::NUM_IRQS = vfio_device_info.num_irqs,
        region_info::ARGSZ = vfio_region_info.argsz,
        region_info::FLAGS = vfio_region_info.flags,
        region_info::INDEX = vfio_region_info.index,
        region_info::CAP_OFFSET = vfio_region_info.cap_offset,
        region_info::SIZE = vfio_region_info.size,
        region_info::OFFSET = vfio_region_info.offset,
        region_cap::ID = vfio_info_cap_header.id,
        region_cap::VERSION = vfio_info_cap_header.version,
        region_cap::NEXT = vfio_info_cap_header.next,
        irq_info::ARGSZ = vfio_irq_info.argsz,
        irq_info::FLAGS = vfio_irq_info.flags,
        irq_info::INDEX = vfio_irq_info.index,
        irq_info::COUNT = vfio_irq_info.count,
        set_irqs::ARGSZ = vfio_irq_set.argsz,
        set_irqs::FLAGS = vfio_irq_set.flags,
        set_irqs::INDEX = vfio_irq_set.index,
        set_irqs::START = vfio_irq_set.start,
        set_irqs::COUNT = vfio_irq_set.count,
        device_feature::ARGSZ = vfio_device_feature.argsz,
        device_feature::FLAGS = vfio_device_feature.flags,
    );
    let sparse = offset_of!(kernel::vfio_region_info_cap_sparse_mmap, nr_areas);
    assert_eq!(region_cap::NEXT.end() + sparse_mmap::NR_AREAS.offset, sparse);
    let areas = offset_of!(kernel::vfio_region_info_cap_sparse_mmap, areas);
    assert_eq!(region_cap::NEXT.end() + sparse_mmap::RESERVED.end(), areas);
}

#[test]
fn flags_are_the_kernels() {
    let pairs = [
        (DmaMap::READ, kernel::VFIO_DMA_MAP_FLAG_READ),
        (DmaMap::WRITE, kernel::VFIO_DMA_MAP_FLAG_WRITE),
        (DmaUnmap::GET_DIRTY_BITMAP, kernel::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP),
        (DmaUnmap::ALL, kernel::VFIO_DMA_UNMAP_FLAG_ALL),
        (DeviceInfoFlags::RESET, kernel::VFIO_DEVICE_FLAGS_RESET),
        (DeviceInfoFlags::PCI, kernel::VFIO_DEVICE_FLAGS_PCI),
        (RegionInfoFlags::READ, kernel::VFIO_REGION_INFO_FLAG_READ),
        (RegionInfoFlags::WRITE, kernel::VFIO_REGION_INFO_FLAG_WRITE),
        (RegionInfoFlags::MMAP, kernel::VFIO_REGION_INFO_FLAG_MMAP),
        (RegionInfoFlags::CAPS, kernel::VFIO_REGION_INFO_FLAG_CAPS),
        (RegionCaps::SPARSE_MMAP.into(), kernel::VFIO_REGION_INFO_CAP_SPARSE_MMAP),
        (RegionCaps::TYPE.into(), kernel::VFIO_REGION_INFO_CAP_TYPE),
        (RegionCaps::MSIX_MAPPABLE.into(), kernel::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE),
        (IrqInfoFlags::EVENTFD, kernel::VFIO_IRQ_INFO_EVENTFD),
        (IrqInfoFlags::MASKABLE, kernel::VFIO_IRQ_INFO_MASKABLE),
        (IrqInfoFlags::AUTOMASKED, kernel::VFIO_IRQ_INFO_AUTOMASKED),
        (IrqInfoFlags::NORESIZE, kernel::VFIO_IRQ_INFO_NORESIZE),
        (DeviceFeature::GET, kernel::VFIO_DEVICE_FEATURE_GET),
        (DeviceFeature::SET, kernel::VFIO_DEVICE_FEATURE_SET),
        (DeviceFeature::PROBE, kernel::VFIO_DEVICE_FEATURE_PROBE),
        (RegionIndex::BAR5.0, kernel::VFIO_PCI_BAR5_REGION_INDEX),
        (RegionIndex::ROM.0, kernel::VFIO_PCI_ROM_REGION_INDEX),
        (RegionIndex::CONFIG.0, kernel::VFIO_PCI_CONFIG_REGION_INDEX),
        (RegionIndex::VGA.0, kernel::VFIO_PCI_VGA_REGION_INDEX),
        (RegionIndex::COUNT, kernel::VFIO_PCI_NUM_REGIONS),
        (IrqIndex::INTX.0, kernel::VFIO_PCI_INTX_IRQ_INDEX),
        (IrqIndex::MSI.0, kernel::VFIO_PCI_MSI_IRQ_INDEX),
        (IrqIndex::MSIX.0, kernel::VFIO_PCI_MSIX_IRQ_INDEX),
        (IrqIndex::ERR.0, kernel::VFIO_PCI_ERR_IRQ_INDEX),
        (IrqIndex::REQ.0, kernel::VFIO_PCI_REQ_IRQ_INDEX),
        (IrqIndex::COUNT, kernel::VFIO_PCI_NUM_IRQS),
    ];
    for (index, (ours, theirs)) in pairs.into_iter().enumerate() {
        assert_eq!(ours, theirs, "pair {index}");
    }
}

#[test]
fn set_irqs_flags_are_the_kernels() {
    let data = [
        (IrqData::None, kernel::VFIO_IRQ_SET_DATA_NONE),
        (IrqData::Bool(&[]), kernel::VFIO_IRQ_SET_DATA_BOOL),
        (IrqData::Eventfd, kernel::VFIO_IRQ_SET_DATA_EVENTFD),
    ];
    let actions = [
        (IrqAction::Mask, kernel::VFIO_IRQ_SET_ACTION_MASK),
        (IrqAction::Unmask, kernel::VFIO_IRQ_SET_ACTION_UNMASK),
        (IrqAction::Trigger, kernel::VFIO_IRQ_SET_ACTION_TRIGGER),
    ];
    for (data, data_flag) in data {
        for (action, action_flag) in actions {
            let set = SetIrqs { action, data, ..SetIrqs::disable(IrqIndex::MSI) };
            assert_eq!(set.flags(), data_flag | action_flag);
        }
    }
}

#[test]
fn fields_follow_each_other_aligned_and_without_gaps() {
    for (name, fields) in layout::ALL {
        let first = fields.first().map_or(0, |field| field.offset);
        let end = fields.iter().fold(first, |at, field: &Field| {
            assert_eq!(field.offset, at, "{name}: {}", field.name);
            assert_eq!(field.offset % field.width.min(4), 0, "{name}: {}", field.name);
            field.end()
        });
        assert!(end <= 40, "{name} ends at {end}");
    }
}

#[test]
fn patch_writes_one_field_only() {
    let mut payload = [0xff; 32];
    assert!(dma_map::FLAGS.patch(&mut payload, 0x0102_0304));
    assert_eq!(payload[4..8], 0x0102_0304_u32.to_ne_bytes());
    assert!(payload[..4].iter().chain(&payload[8..]).all(|byte| *byte == 0xff));
    assert!(!dma_map::SIZE.patch(&mut payload[..31], 0));
    assert_eq!(payload[24], 0xff);
}
