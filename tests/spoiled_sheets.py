"""Images as scanners, cameras and mail give them: what the reader of sheets is tried on. It knows nothing of the
reader."""

import cv2
import numpy as np

WHITE = 255


def warped(image, matrix):
    "An image moved by a matrix (3, 3), on white paper."
    return cv2.warpPerspective(image, np.float64(matrix), image.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=WHITE)


def turned(image, degrees):
    "An image turned about its middle, against the clock."
    matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, 1)
    return warped(image, np.vstack((matrix, (0, 0, 1))))


def sized(image, factor):
    "An image scanned with so many times the dots."
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def peppered(image, share):
    "An image with a share of its pixels black or white."
    draw = np.random.default_rng(0).random(image.shape)
    return np.where(draw < share / 2, 0, np.where(draw > 1 - share / 2, WHITE, image)).astype(np.uint8)


def as_jpeg(image, quality):
    "An image after compression."
    return cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_GRAYSCALE)


def greyed(image):
    "An image of grey ink on grey paper."
    return (60 + image * 0.6).astype(np.uint8)


def blurred(image, pixels):
    return cv2.GaussianBlur(image, (0, 0), pixels)


def photographed(image):
    "An image by a phone held nearly flat, grey, in a light that fades to one side, blurred a little, and compressed."
    light = np.linspace(0.9, 0.6, image.shape[1])
    return as_jpeg((blurred(CHANGES[PHONE](image), 0.6) * light).astype(np.uint8), 80)


PHONE = "perspective of a phone held nearly flat"
PHOTOGRAPH = "a photograph: perspective, shade, blur, JPEG"
CHANGES = {
    "as it is": lambda image: image,
    "grey paper, grey ink": greyed,
    "JPEG of quality 40": lambda image: as_jpeg(image, 40),
    "blur of 1 pixel": lambda image: blurred(image, 1),
    "salt and pepper, 0.1 %": lambda image: peppered(image, 0.001),
    "turned by 0.3 degrees": lambda image: turned(image, 0.3),
    "turned by 1 degree": lambda image: turned(image, 1),
    PHONE: lambda image: warped(image, ((1, 0.004, 0), (0.002, 1, 0), (1e-5, 1e-5, 1))),
    "three quarters of the dots": lambda image: sized(image, 0.75),
    "twice the dots": lambda image: sized(image, 2),
    "four times the dots": lambda image: sized(image, 4),
    PHOTOGRAPH: photographed,
}
