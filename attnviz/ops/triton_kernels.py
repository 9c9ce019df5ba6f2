"""The samplers as Triton kernels: CUDA and ROCm, forward and backward.

The matrix products of a deformable convolution are torch's; the kernels here sample images at displaced points and
write the adjoint. Numbers are in the dtype of the image (float32 or float64), addresses in 64 bits, pixel numbers in
32.

Adding up an image's gradient uses atomics, whose order differs from run to run; everything else is reproducible.
"""

# Triton: constexpr arguments are upper case, `tl` is untyped, loops unroll over the 4 corners.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,import-untyped"
import triton
import triton.language as tl


@triton.jit
def _axis(position, size):
    """Along one axis: whether a sample is inside, the pixel before it, and how far behind that pixel it lies."""
    inside = (position >= -1) & (position < size)  # false for NaN and infinity
    safe = tl.where(inside, position, 0)
    before = tl.floor(safe)
    return inside, before.to(tl.int32), safe - before


@triton.jit
def _window_point(
    offset, mask, image, tap, p, there, taps, kernel_w, positions, out_w,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, HAS_MASK: tl.constexpr,
):  # fmt: skip
    """Coordinates and modulation of one tap at output positions ``p``."""
    plane = (image * taps + tap) * positions
    dy = tl.load(offset + 2 * plane + p, mask=there, other=0)
    dx = tl.load(offset + 2 * plane + positions + p, mask=there, other=0)
    y = (p // out_w * stride_h - pad_h + tap // kernel_w * dil_h).to(dy.dtype) + dy
    x = (p % out_w * stride_w - pad_w + tap % kernel_w * dil_w).to(dx.dtype) + dx
    if HAS_MASK:  # noqa: SIM108 - decided while compiling
        modulation = tl.load(mask + plane + p, mask=there, other=0)
    else:
        modulation = tl.full(dy.shape, 1, dy.dtype)
    return y, x, modulation


@triton.jit
def window_gather(
    images, offset, mask, out, blocks, channel_blocks, channels, height, width, taps, kernel_w, positions, out_w,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, HAS_MASK: tl.constexpr, SUM: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Samples of every tap, (B, C, K, P); with SUM their sum over taps, (B, C, P).

    One program: some positions and channels.
    """
    program = tl.program_id(0)
    block, rest = program % blocks, program // blocks
    channel_block, rest = rest % channel_blocks, rest // channel_blocks
    if SUM:
        first, count, image = 0, taps, rest.to(tl.int64)
    else:
        first, count, image = rest % taps, 1, (rest // taps).to(tl.int64)
    p = block * POSITIONS + tl.arange(0, POSITIONS)
    c = channel_block * CHANNELS + tl.arange(0, CHANNELS)
    there = p < positions
    pixels = height * width
    base = images + (image * channels + c)[:, None].to(tl.int64) * pixels
    total = tl.zeros((CHANNELS, POSITIONS), images.dtype.element_ty)
    for i in range(count):
        tap = first + i
        y, x, modulation = _window_point(
            offset, mask, image, tap, p, there, taps, kernel_w, positions, out_w, stride_h, stride_w, pad_h, pad_w,
            dil_h, dil_w, HAS_MASK,
        )  # fmt: skip
        inside_y, top, down = _axis(y, height)
        inside_x, left, right = _axis(x, width)
        reads = there & inside_y & inside_x & (y > -1) & (x > -1)
        for corner in tl.static_range(4):
            row, column = top + corner // 2, left + corner % 2
            w = (down if corner // 2 else 1 - down) * (right if corner % 2 else 1 - right) * modulation
            ok = reads & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixel = tl.load(base + (row * width + column)[None, :], mask=ok[None, :] & (c < channels)[:, None], other=0)
            total += tl.where(ok, w, 0)[None, :] * pixel
    plane = (image * channels + c).to(tl.int64)
    if not SUM:
        plane = plane * taps + first
    tl.store(out + plane[:, None] * positions + p[None, :], total, mask=there[None, :] & (c < channels)[:, None])


@triton.jit
def _slopes(d0, d1, d2, d3, down, right, modulation):
    """Slopes along y and x and by the modulation, from the gradient's products with the four pixels."""
    y = modulation * ((1 - right) * (d2 - d0) + right * (d3 - d1))
    x = modulation * ((1 - down) * (d1 - d0) + down * (d3 - d2))
    m = (1 - down) * ((1 - right) * d0 + right * d1) + down * ((1 - right) * d2 + right * d3)
    return y, x, m


@triton.jit
def window_scatter(
    grad, grad_image, grad_channel, grad_tap, images, offset, mask, images_grad, offset_grad, mask_grad,
    blocks, channels, height, width, taps, kernel_w, positions, out_w,
    stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, HAS_MASK: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The adjoint of :func:`window_gather`. One program: one tap of some positions, all channels.

    ``grad`` has strides for image, channel and tap; a stride of 0 for the tap is the adjoint of the sum.
    """
    program = tl.program_id(0)
    block, rest = program % blocks, program // blocks
    tap, image = rest % taps, (rest // taps).to(tl.int64)
    p = block * POSITIONS + tl.arange(0, POSITIONS)
    there = p < positions
    y, x, modulation = _window_point(
        offset, mask, image, tap, p, there, taps, kernel_w, positions, out_w, stride_h, stride_w, pad_h, pad_w,
        dil_h, dil_w, HAS_MASK,
    )  # fmt: skip
    inside_y, top, down = _axis(y, height)
    inside_x, left, right = _axis(x, width)
    inside = there & inside_y & inside_x
    d0 = tl.zeros((POSITIONS,), images.dtype.element_ty)
    d1, d2, d3 = d0, d0, d0
    for start in range(0, channels, CHANNELS):
        c = start + tl.arange(0, CHANNELS)
        some = there[None, :] & (c < channels)[:, None]
        g = tl.load(
            grad + image * grad_image + c.to(tl.int64)[:, None] * grad_channel + tap * grad_tap + p[None, :],
            mask=some, other=0,
        )  # fmt: skip
        plane = (image * channels + c).to(tl.int64)[:, None] * (height * width)
        for corner in tl.static_range(4):
            row, column = top + corner // 2, left + corner % 2
            w = (down if corner // 2 else 1 - down) * (right if corner % 2 else 1 - right) * modulation
            ok = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at = plane + (row * width + column)[None, :]
            tl.atomic_add(images_grad + at, w[None, :] * g, mask=some & ok[None, :], sem="relaxed")
            dot = tl.sum(g * tl.load(images + at, mask=some & ok[None, :], other=0), 0)
            if corner == 0:
                d0 += dot
            elif corner == 1:
                d1 += dot
            elif corner == 2:
                d2 += dot
            else:
                d3 += dot
    y_grad, x_grad, modulation_grad = _slopes(d0, d1, d2, d3, down, right, modulation)
    plane = (image * taps + tap) * positions
    tl.store(offset_grad + 2 * plane + p, y_grad, mask=there)
    tl.store(offset_grad + 2 * plane + positions + p, x_grad, mask=there)
    if HAS_MASK:
        tl.store(mask_grad + plane + p, modulation_grad, mask=there)


@triton.jit
def _level_point(shapes, starts, location, weight, level, at, there):
    """One point of one level: the level's size and first row, the point's pixel coordinates and its weight."""
    height = tl.load(shapes + 2 * level).to(tl.int32)
    width = tl.load(shapes + 2 * level + 1).to(tl.int32)
    start = tl.load(starts + level).to(tl.int32)
    x = tl.load(location + 2 * at, mask=there, other=0) * width - 0.5
    y = tl.load(location + 2 * at + 1, mask=there, other=0) * height - 0.5
    return height, width, start, y, x, tl.load(weight + at, mask=there, other=0)


@triton.jit
def attention_gather(
    value, shapes, starts, location, weight, out, blocks, depth_blocks, rows, heads, depth, queries, levels, points,
    QUERIES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """(N, Q, M*D). One program: some queries and channels of one head."""
    program = tl.program_id(0)
    block, rest = program % blocks, program // blocks
    depth_block, rest = rest % depth_blocks, rest // depth_blocks
    head, image = rest % heads, (rest // heads).to(tl.int64)
    q = block * QUERIES + tl.arange(0, QUERIES)
    c = depth_block * DEPTH + tl.arange(0, DEPTH)
    there = q < queries
    line = (image * queries + q) * heads + head
    base = value + image * rows * heads * depth + head * depth + c[None, :]
    total = tl.zeros((QUERIES, DEPTH), value.dtype.element_ty)
    for point in range(levels * points):
        height, width, start, y, x, w = _level_point(
            shapes, starts, location, weight, point // points, line * levels * points + point, there
        )
        inside_y, top, down = _axis(y, height)
        inside_x, left, right = _axis(x, width)
        reads = there & inside_y & inside_x & (y > -1) & (x > -1)
        for corner in tl.static_range(4):
            row, column = top + corner // 2, left + corner % 2
            share = (down if corner // 2 else 1 - down) * (right if corner % 2 else 1 - right) * w
            at = start + row * width + column
            ok = reads & (row >= 0) & (row < height) & (column >= 0) & (column < width) & (at < rows)
            pixel = tl.load(
                base + at.to(tl.int64)[:, None] * (heads * depth), mask=ok[:, None] & (c < depth)[None, :], other=0
            )
            total += tl.where(ok, share, 0)[:, None] * pixel
    tl.store(out + line[:, None] * depth + c[None, :], total, mask=there[:, None] & (c < depth)[None, :])


@triton.jit
def attention_scatter(
    grad, value, shapes, starts, location, weight, value_grad, location_grad, weight_grad,
    blocks, rows, heads, depth, queries, levels, points, QUERIES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The adjoint of :func:`attention_gather`. One program: one point of some queries of one head, all channels."""
    program = tl.program_id(0)
    block, rest = program % blocks, program // blocks
    point, rest = rest % (levels * points), rest // (levels * points)
    head, image = rest % heads, (rest // heads).to(tl.int64)
    q = block * QUERIES + tl.arange(0, QUERIES)
    there = q < queries
    line = (image * queries + q) * heads + head
    at_point = line * levels * points + point
    height, width, start, y, x, w = _level_point(shapes, starts, location, weight, point // points, at_point, there)
    inside_y, top, down = _axis(y, height)
    inside_x, left, right = _axis(x, width)
    inside = there & inside_y & inside_x
    d0 = tl.zeros((QUERIES,), value.dtype.element_ty)
    d1, d2, d3 = d0, d0, d0
    for from_channel in range(0, depth, DEPTH):
        c = from_channel + tl.arange(0, DEPTH)
        some = there[:, None] & (c < depth)[None, :]
        g = tl.load(grad + line[:, None] * depth + c[None, :], mask=some, other=0)
        base = image * rows * heads * depth + head * depth + c[None, :]
        for corner in tl.static_range(4):
            row, column = top + corner // 2, left + corner % 2
            share = (down if corner // 2 else 1 - down) * (right if corner % 2 else 1 - right) * w
            number = start + row * width + column
            ok = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width) & (number < rows)
            at = base + number.to(tl.int64)[:, None] * (heads * depth)
            tl.atomic_add(value_grad + at, share[:, None] * g, mask=some & ok[:, None], sem="relaxed")
            dot = tl.sum(g * tl.load(value + at, mask=some & ok[:, None], other=0), 1)
            if corner == 0:
                d0 += dot
            elif corner == 1:
                d1 += dot
            elif corner == 2:
                d2 += dot
            else:
                d3 += dot
    y_grad, x_grad, w_grad = _slopes(d0, d1, d2, d3, down, right, w)
    tl.store(location_grad + 2 * at_point, x_grad * width, mask=there)
    tl.store(location_grad + 2 * at_point + 1, y_grad * height, mask=there)
    tl.store(weight_grad + at_point, w_grad, mask=there)
