# SPDX-License-Identifier: Apache-2.0
"""Real virtual machines for the tests, the benchmarks and the demo.

Images are built once (``testbed.image``), guests run under QEMU's TCG (``testbed.machine``) and are
spoken to over a virtio serial port (``testbed.guest``). Standard library only; not shipped in the wheel.
"""
